"""Whose a cluster is and what it holds, asked of a real API server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.cluster.room import namespace
from windsock.cluster import ownership
from windsock.cluster.api.client import MANAGED, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess

pytestmark = pytest.mark.cluster

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


@pytest.fixture
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        yield room


@pytest.fixture
def team(room: Cluster) -> Iterator[Cluster]:
    """A namespace that windsock did not make."""
    team = Cluster(room.connection, namespace=f"team-{uuid.uuid4().hex[:8]}")
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team.namespace}}
    team.create(item)
    try:
        yield team
    finally:
        team.delete(item)


def test_a_mark_can_be_set_and_seen(room: Cluster) -> None:
    assert not ownership.is_marked(room)
    ownership.mark(room)
    ownership.mark(room)
    assert ownership.is_marked(room)


def test_every_node_of_a_complete_cluster_is_ready(room: Cluster) -> None:
    assert ownership.unready(room) == []


def test_a_namespace_is_an_environment_if_windsock_made_it_or_has_volumes_in_it(
    room: Cluster, team: Cluster
) -> None:
    team.create({**CLAIM, "metadata": {"name": "theirs"}})
    found = ownership.environments(room)
    assert room.namespace in found
    assert team.namespace not in found
    team.create({**CLAIM, "metadata": {"name": "dags", "labels": dict(MANAGED)}})
    assert team.namespace in ownership.environments(room)
