from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dev.benchmarks.environment import BenchEnvironment, Terminal, uninterrupted
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path


def terminal(program: str) -> Terminal:
    return Terminal(
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    )


def test_terminal_tells_when_a_line_came() -> None:
    since = time.monotonic()
    with terminal("import sys; print('a.py:3  NameError: x', file=sys.stderr)") as shown:
        seconds = shown.seconds_until(r"a\.py:3 .*NameError", since=since, timeout=30)
    assert 0 < seconds < time.monotonic() - since


def test_terminal_ignores_earlier_lines_and_says_what_it_saw_instead() -> None:
    with terminal("import sys; print('old', file=sys.stderr)") as shown:
        shown.seconds_until("old", since=0, timeout=30)
        with pytest.raises(DeadlineExceeded, match="but: old"):
            shown.seconds_until("old", since=time.monotonic(), timeout=0)


def test_terminal_ends_its_command() -> None:
    shown = terminal("import sys, time; print('up', file=sys.stderr, flush=True); time.sleep(600)")
    shown.seconds_until("up", since=0, timeout=30)
    shown.close()
    assert shown._child.returncode is not None
    assert not shown._reader.is_alive()


def test_a_whole_venv_is_taken_over_by_links(tmp_path: Path) -> None:
    venv = tmp_path / "other" / "venv" / "abc"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "bin" / "tool").write_text("tool")
    unfinished = tmp_path / "other" / "venv" / "def"
    unfinished.mkdir()
    ours = BenchEnvironment(tmp_path / "ours", project=tmp_path)
    ours.use_venv_of(tmp_path / "other")
    with pytest.raises(EnvironmentFailure, match="there is no venv"):
        ours.airflow_python()
    (venv / ".complete").touch()
    ours.use_venv_of(tmp_path / "other")
    python = ours.airflow_python()
    assert python.is_symlink()
    assert python.with_name("tool").samefile(venv / "bin" / "tool")
    assert not (ours.state / "venv" / "def").exists()


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    ours = BenchEnvironment(tmp_path / "ours", project=tmp_path)  # No tasks.py there.
    with pytest.raises(EnvironmentFailure, match="`invoke up --detach` failed") as caught:
        ours.command("up", "--detach")
    assert caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_cleaning_up_is_not_interrupted_and_signals_are_heard_again(number: int) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, _: heard.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(number)
        assert heard == []
        signal.raise_signal(number)
        assert heard == [number]
    finally:
        signal.signal(number, before)
