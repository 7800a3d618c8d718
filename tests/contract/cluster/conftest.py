"""A namespace of the fake API server, seen through the real connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.fake_api import FakeApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from windsock.cluster.api.client import Cluster


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Cluster]:
    with FakeApi(tmp_path) as api:
        yield api.cluster()
