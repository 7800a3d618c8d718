"""The lock of a state folder, between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.errors import EnvironmentFailure
from windsock.local.locking import locked_by, state_lock

if TYPE_CHECKING:
    from pathlib import Path

LOCK = """
import sys, time
from pathlib import Path
from windsock.local.locking import state_lock
with state_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_the_second_reads_who_has_the_lock_until_that_process_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "locked\n"
            assert locked_by(tmp_path).endswith(f"{tmp_path}` (pid {child.pid})")
            for _ in range(2):  # a refused command changes nothing
                with pytest.raises(EnvironmentFailure) as refused, state_lock(tmp_path):
                    pass
                assert f"{tmp_path}` (pid {child.pid}) is bringing this" in str(refused.value)
        finally:
            child.send_signal(signal.SIGKILL)
    assert locked_by(tmp_path) == ""
    with state_lock(tmp_path):
        pass


def test_a_lock_that_was_given_back_can_be_taken_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), state_lock(tmp_path):
        raise ZeroDivisionError
    with state_lock(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == ""
    assert locked_by(tmp_path) == locked_by(tmp_path / "nowhere") == ""


def test_who_has_the_lock_may_not_have_named_itself_yet(tmp_path: Path) -> None:
    with state_lock(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(EnvironmentFailure, match="another command"), state_lock(tmp_path):
            pass


def test_a_child_process_does_not_have_the_lock(tmp_path: Path) -> None:
    with state_lock(tmp_path):
        child = subprocess.Popen(["/bin/sleep", "600"])
    with child:
        try:
            with state_lock(tmp_path):
                pass
        finally:
            child.kill()
