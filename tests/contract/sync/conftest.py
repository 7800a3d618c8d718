from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.contract.sync.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "process"])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Every case runs over an agent in a thread and over a real child process."""
    before = set(threading.enumerate())
    rig = Rig(tmp_path, request.param)
    yield rig
    assert not any(transport.alive for transport in rig.transports), "an agent was left running"
    left = [t for t in threading.enumerate() if t not in before and t.is_alive()]
    assert not left, f"threads were left running: {left}"
