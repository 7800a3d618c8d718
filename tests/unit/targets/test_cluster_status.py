"""What `invoke status` makes of a cluster's sync."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.unit.fakes import IN_STEP, FakeSync, environment
from windsock.cluster.rollout import follow as rollout
from windsock.config import load
from windsock.targets import cluster
from windsock.targets.cluster import ClusterTarget
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path, sync: FakeSync, monkeypatch: pytest.MonkeyPatch) -> ClusterTarget:
    settings = load({"state": "state"}, project=tmp_path)
    place = Location(target="context", context="lab", namespace="mine")
    made = ClusterTarget(settings, location=place, variables={})
    state = SimpleNamespace(running=True, description="pid 3", since=datetime.now(UTC))
    supervisor = SimpleNamespace(alive=lambda: True, states=lambda: {"sync": state})
    vars(made).update(_cluster=None, _supervisor=supervisor, _loopback=None)
    environment(tmp_path / "state", socket=sync.path).save(tmp_path / "state")
    pod = SimpleNamespace(component="scheduler", state="running", detail="1 of 1")
    monkeypatch.setattr(rollout, "states", lambda _: [pod])
    said = {"scheduler": {"status": "healthy"}}
    monkeypatch.setattr(cluster, "airflow_health", lambda *_: said)
    return made


@pytest.mark.parametrize("healthy", [True, False])
def test_a_sync_that_is_held_or_cut_off_is_not_healthy(
    target: ClusterTarget, sync: FakeSync, *, healthy: bool
) -> None:
    sync.state = {**IN_STEP, "healthy": healthy}
    found = {item.name: item.healthy for item in target.status()}
    assert found == {"scheduler": True, "sync": healthy}
