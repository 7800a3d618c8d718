"""The cases of tests/contract/lease on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.room import namespace
from tests.contract.lease.test_lease import *  # noqa: F403 - its cases are the point
from windsock.cluster.api.lease import API_VERSION, KIND, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def place(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as place:
        yield place


@pytest.fixture
def room(place: Cluster) -> Iterator[Cluster]:
    yield place
    found = place.get(API_VERSION, KIND, NAME)
    if found is not None:
        place.delete(found)
