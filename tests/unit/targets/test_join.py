"""What a target of a cluster waits for in what others applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contract.lease.conftest import FakeRoom
from tests.unit.fakes import KeptConsole
from windsock.cluster.rollout import follow as rollout
from windsock.config import load
from windsock.targets.cluster import joining
from windsock.targets.cluster.joining import JoinedTarget
from windsock.targets.cluster.parts import Parts
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Applied(FakeRoom):
    """A namespace to which somebody has applied a migration under a name of their own."""

    def items(self, api_version: str, kind: str, *, selector: str = "") -> list[dict[str, Any]]:
        assert (api_version, kind) == ("batch/v1", "Job")
        assert "windsock" in selector
        return [thing("Job", "airflow-migrate")]


def thing(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}}


def test_the_migration_that_others_applied_is_waited_for_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dags", "state"):
        (tmp_path / name).mkdir()
    settings = load({"state": "state"}, project=tmp_path)
    place = Location(target="context", context="lab", namespace="mine")
    target = JoinedTarget(Parts(settings=settings, location=place, variables={}))
    ours = [thing("Deployment", "airflow-scheduler"), thing("Job", "airflow-migrate-0123456789")]
    vars(target.parts).update(cluster=Applied(), objects=lambda: ours)
    monkeypatch.setattr(joining, "ensure_secret", lambda _: None)
    waited: list[dict[str, Any]] = []
    monkeypatch.setattr(rollout, "wait", lambda _, objects, **__: waited.extend(objects))

    target.prepare(KeptConsole())
    target.deploy(KeptConsole())

    assert waited == [thing("Deployment", "airflow-scheduler"), thing("Job", "airflow-migrate")]
