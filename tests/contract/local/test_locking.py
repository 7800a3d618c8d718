"""The lock of a state folder, between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from windsock.local.locking import Holder, StateLock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from windsock.local.locking import StateLock
lock = StateLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(600)
"""


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "None\n"
            holder = StateLock(tmp_path).acquire()
            assert holder is not None
            assert holder.pid == child.pid
            assert str(tmp_path) in holder.command
            assert holder.since > 0
        finally:
            child.send_signal(signal.SIGKILL)
    mine = StateLock(tmp_path)
    assert mine.acquire() is None  # the kernel freed it when its holder was killed
    mine.release()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path, clock=lambda: 5.0), StateLock(tmp_path)
    assert first.acquire() is None
    held = second.acquire()
    assert held is not None
    assert held.since == 5.0
    first.release()
    first.release()
    assert second.acquire() is None
    second.release()


def test_a_holder_that_has_not_said_who_it_is_yet_is_still_a_holder(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    assert first.acquire() is None
    (tmp_path / "lock").write_text("")
    assert StateLock(tmp_path).acquire() == Holder(pid=0, since=0.0, command="")
    first.release()


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    assert lock.acquire() is None
    with subprocess.Popen(["/bin/sleep", "600"]) as child:
        try:
            lock.release()
            again = StateLock(tmp_path)
            assert again.acquire() is None
            again.release()
        finally:
            child.kill()
