"""A sync into what others applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.cluster.fake_api import NAMESPACE, FakeApi
from tests.unit.fakes import KeptConsole
from windsock.cluster.api.client import MANAGED
from windsock.config import load
from windsock.targets.cluster.joining import JoinedTarget
from windsock.targets.cluster.parts import Parts
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path

READY = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 1}
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}


def item(version: str, kind: str, name: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": dict(MANAGED), "generation": 1}
    body = {"apiVersion": version, "kind": kind, "metadata": metadata}
    return body | {"spec": {}, "status": status}


def test_the_migration_that_others_applied_is_waited_for_whatever_its_name(tmp_path: Path) -> None:
    for name in ("dags", "state"):
        (tmp_path / name).mkdir()
    settings = load({"state": "state", "up_timeout": 20}, project=tmp_path)
    place = Location(target="context", context="fake", namespace=NAMESPACE)
    target = JoinedTarget(Parts(settings=settings, location=place, variables={}))
    ours = [
        item("apps/v1", "Deployment", "airflow-scheduler"),
        item("batch/v1", "Job", "airflow-migrate-0123456789"),
    ]
    with FakeApi(tmp_path) as api:
        vars(target.parts).update(cluster=api.cluster(), objects=lambda: ours)
        api.put(item("apps/v1", "Deployment", "airflow-scheduler", **READY))
        api.put(item("batch/v1", "Job", "airflow-migrate", **COMPLETE))
        assert target.prepare() == ()
        target.apply_objects(KeptConsole())
        target.parts.lease.release()
    assert target.parts.applied.by_others()
    assert not [line for line in api.writes() if "deployments" in line or "jobs" in line]
