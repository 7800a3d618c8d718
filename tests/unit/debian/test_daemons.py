"""Background processes: recorded, recognised, stopped."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian.daemons import Daemons, wait_until
from windsock.errors import DeadlineExceeded, EnvironmentFailure

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


def test_what_runs_is_not_started_twice(daemons: Daemons) -> None:
    daemons.start("one", "sleep", "600")
    before = daemons.running()
    daemons.start("one", "sleep", "600")
    assert daemons.running() == before


def test_stopping_goes_from_the_last_to_the_first(daemons: Daemons, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("first", "second"):
        tell = f'trap "echo {name} >>{order}; exit" TERM; echo ready; while :; do sleep 0.05; done'
        daemons.start(name, "sh", "-c", tell)
        wait_until(lambda name=name: "ready" in daemons.log(name).read_text(), name)  # type: ignore[misc] # mypy infers no type for a lambda with a default
    daemons.stop()
    assert order.read_text().split() == ["second", "first"]


def test_one_that_ignores_sigterm_is_killed(daemons: Daemons) -> None:
    daemons.start("deaf", "sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    wait_until(lambda: "ready" in daemons.log("deaf").read_text(), "its start")
    daemons.stop(seconds=0.2)
    assert daemons.running() == {}


def test_one_that_ended_is_told_with_its_last_words(daemons: Daemons) -> None:
    daemons.start("broken", "sh", "-c", "echo address in use; exit 1")
    wait_until(lambda: not daemons.running(), "its end")
    with pytest.raises(EnvironmentFailure, match=r"broken has ended\naddress in use"):
        daemons.check()


def test_a_program_that_is_not_there_has_ended(daemons: Daemons) -> None:
    daemons.start("absent", "/nowhere/program")
    wait_until(lambda: not daemons.running(), "its end")
    with pytest.raises(EnvironmentFailure, match="absent has ended"):
        daemons.check()


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


def test_the_umask_is_the_daemon_s_own(daemons: Daemons, tmp_path: Path) -> None:
    made = tmp_path / "made"
    daemons.start("open", "sh", "-c", f"mkdir -m 777 {made}; mkdir {made}/in; sleep 600", umask=0)
    wait_until((made / "in").is_dir, "its folder")
    assert (made / "in").stat().st_mode & 0o777 == 0o777
    assert daemons.log("open").stat().st_mode & 0o022 == 0


def test_a_condition_that_does_not_come_is_a_failure() -> None:
    with pytest.raises(DeadlineExceeded, match="the moon did not happen"):
        wait_until(lambda: False, "the moon", seconds=0)
