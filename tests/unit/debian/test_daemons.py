"""Background processes: recorded, recognised, stopped."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian.daemons import Daemons, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path / "daemons")
    yield daemons
    daemons.stop()


def test_what_is_started_runs_until_it_is_stopped(daemons: Daemons) -> None:
    daemons.start("first", "sleep", "600")
    daemons.start("second", "sleep", "600")
    assert list(daemons.running()) == ["first", "second"]
    daemons.check()
    daemons.stop()
    assert daemons.running() == {}


def test_one_that_ignores_sigterm_is_killed(daemons: Daemons) -> None:
    daemons.start("deaf", "sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    wait_until(lambda: "ready" in daemons.log("deaf").read_text(), "its start")
    daemons.stop(seconds=0.2)
    assert daemons.running() == {}


def test_a_process_that_got_the_id_of_a_dead_daemon_is_let_live(
    daemons: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "daemons").mkdir()
    (tmp_path / "daemons" / "01-gone.pid").write_text(str(os.getpid()))
    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: handled.append(number))
    try:
        assert daemons.running() == {}
        daemons.stop()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handled == []
