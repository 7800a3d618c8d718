"""The health of components in `invoke status`."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.fake_api import NAMESPACE, FakeApi
from tests.unit.fakes import IN_STEP, FakeSync, environment
from tests.unit.targets.health import answering
from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.workloads import COMPONENT
from windsock.config import load
from windsock.targets.cluster.operations import ClusterOperations
from windsock.targets.cluster.parts import Parts
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SCHEDULER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "airflow-scheduler", "labels": MANAGED | {COMPONENT: "scheduler"}},
    "spec": {"replicas": 1},
}


@pytest.fixture
def operations(tmp_path: Path, sync: FakeSync) -> Iterator[ClusterOperations]:
    settings = load({"state": "state"}, project=tmp_path)
    place = Location(target="context", context="lab", namespace=NAMESPACE)
    parts = Parts(settings=settings, location=place, variables={})
    state = SimpleNamespace(running=True, description="pid 3", since=datetime.now(UTC))
    supervisor = SimpleNamespace(alive=lambda: True, states=lambda: {"sync": state})
    environment(tmp_path / "state", socket=sync.path).save(tmp_path / "state")
    with FakeApi(tmp_path) as api:
        api.put(SCHEDULER)
        vars(parts).update(
            cluster=api.cluster(), supervisor=supervisor, loopback=answering("scheduler")
        )
        yield ClusterOperations(parts)


@pytest.mark.parametrize("healthy", [True, False])
def test_a_sync_that_is_held_or_cut_off_is_not_healthy(
    operations: ClusterOperations, sync: FakeSync, *, healthy: bool
) -> None:
    sync.state = {**IN_STEP, "healthy": healthy}
    found = {item.name: item.healthy for item in operations.status()}
    assert found == {"scheduler": True, "sync": healthy}
