"""What `invoke status` makes of a cluster's sync."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.unit.fakes import IN_STEP, FakeSync, environment
from windsock.cluster.rollout import follow as rollout
from windsock.config import load
from windsock.targets.cluster import processes
from windsock.targets.cluster.operations import ClusterOperations
from windsock.targets.cluster.parts import Parts
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def operations(
    tmp_path: Path, sync: FakeSync, monkeypatch: pytest.MonkeyPatch
) -> ClusterOperations:
    settings = load({"state": "state"}, project=tmp_path)
    place = Location(target="context", context="lab", namespace="mine")
    parts = Parts(settings=settings, location=place, variables={})
    state = SimpleNamespace(running=True, description="pid 3", since=datetime.now(UTC))
    supervisor = SimpleNamespace(alive=lambda: True, states=lambda: {"sync": state})
    vars(parts).update(cluster=None, supervisor=supervisor, loopback=None)
    environment(tmp_path / "state", socket=sync.path).save(tmp_path / "state")
    pod = SimpleNamespace(component="scheduler", state="running", detail="1 of 1")
    monkeypatch.setattr(rollout, "states", lambda _: [pod])
    said = {"scheduler": {"status": "healthy"}}
    monkeypatch.setattr(processes, "airflow_health", lambda *_: said)
    return ClusterOperations(parts)


@pytest.mark.parametrize("healthy", [True, False])
def test_a_sync_that_is_held_or_cut_off_is_not_healthy(
    operations: ClusterOperations, sync: FakeSync, *, healthy: bool
) -> None:
    sync.state = {**IN_STEP, "healthy": healthy}
    found = {item.name: item.healthy for item in operations.status()}
    assert found == {"scheduler": True, "sync": healthy}
