"""What the unit tests of several modules use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.fakes import FakeSync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[FakeSync]:
    """A sync process that answers."""
    fake = FakeSync(tmp_path / "control.sock")
    fake.start()
    yield fake
    fake.stop()
