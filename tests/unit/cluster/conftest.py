"""A cluster for the tests here: an API server in memory, and the real connection to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.fake_api import FakeApi
from windsock.cluster.api import watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from windsock.cluster.api.client import Cluster


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(watching, "FIRST_PAUSE_SECONDS", 0.001)
    with FakeApi(tmp_path) as api:
        yield api


@pytest.fixture
def cluster(api: FakeApi) -> Cluster:
    return api.cluster()
