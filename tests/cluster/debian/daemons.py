"""Processes that stay: started in order, recorded, stopped in reverse order by their records.

A daemon writes its own record before it becomes the program, so that none ever runs unrecorded.
A record is believed only if the process bears our mark in its environment: process ids return.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.debian.commands import Commands, tail
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARK = "WINDSOCK_KUBERNETES"
INTERVAL = 0.1
KILLED_TIME = 30.0  # seconds, as the others
EXEC_TIME = 1.0
"""Seconds that a process may be without an environment while it starts its program."""

# $0 is the record, $1 the log, $2 the umask; the rest is the program.
SCRIPT = 'echo $$ >"$0" && exec >"$1" 2>&1 </dev/null && umask "$2" && shift 2 && exec "$@"'


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 90) -> None:
    """Wait for a condition.

    Raises:
        DeadlineExceeded: It did not come in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(INTERVAL)


class Daemons:
    """The long-running processes of one cluster.

    Args:
        folder: Of the records (`01-etcd.pid`) and logs (`etcd.log`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self,
        name: str,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        umask: int = 0o022,
    ) -> None:
        """Start a program in the background, unless it runs already."""
        if name in self.running():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob(f"*-{name}.pid"):
            stale.unlink()
        number = max((int(path.name[:2]) for path in self._records()), default=0) + 1
        record = self._folder / f"{number:02}-{name}.pid"
        shell = ("setsid", "--fork", "sh", "-c", SCRIPT, record, self.log(name), f"{umask:o}")
        Commands().run(*shell, *arguments, environment={**(environment or {}), MARK: name})
        wait_until(lambda: _process_id(record) is not None, f"the start of {name}")

    def log(self, name: str) -> Path:
        """Where a daemon's output goes."""
        return self._folder / f"{name}.log"

    def running(self) -> dict[str, int]:
        """The process ids of those that run, by name, in the order of their start."""
        found = {}
        for record in self._records():
            process_id = _process_id(record)
            name = _name(record)
            if process_id is not None and _is_ours(process_id, name):
                found[name] = process_id
        return found

    def check(self) -> None:
        """Make sure that all that were started still run.

        Raises:
            EnvironmentFailure: One has ended; the hint holds the end of its log.
        """
        running = self.running()
        for record in self._records():
            name = _name(record)
            if name not in running:
                log = self.log(name)
                raise EnvironmentFailure(
                    f"{name} has ended",
                    tail(log.read_text(errors="replace")) if log.exists() else "",
                )

    def kill(self, name: str) -> None:
        """Kill one that runs; returns when all of its threads are gone, and its ports are free.

        Raises:
            DeadlineExceeded: It does not end.
        """
        if not _ends(self.running()[name], signal.SIGKILL, KILLED_TIME):
            raise DeadlineExceeded(f"{name} was killed and does not end")

    def stop(self, *, seconds: float = 30) -> None:
        """End all of them, the last started first, each killed if it takes too long."""
        for record in reversed(self._records()):
            name = _name(record)
            process_id = _process_id(record)
            if process_id is not None and _is_ours(process_id, name):
                _end(process_id, name, seconds)
            record.unlink(missing_ok=True)

    def _records(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9][0-9]-*.pid"))


def _name(record: Path) -> str:
    return record.stem[3:]


def _process_id(record: Path) -> int | None:
    try:
        return int(record.read_text())
    except (OSError, ValueError):
        return None


def _is_ours(process_id: int, name: str) -> bool:
    """Whether a process bears our mark, and has not ended."""
    folder = Path("/proc") / str(process_id)
    deadline = time.monotonic() + EXEC_TIME
    try:
        while not (variables := (folder / "environ").read_text(errors="replace")):
            # A zombie has no environment, and a process has none while one program becomes
            # another, which the shell of `SCRIPT` does.
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state in "ZX" or time.monotonic() > deadline:
                return False
            time.sleep(EXEC_TIME / 100)
    except OSError:
        return False
    return f"{MARK}={name}" in variables.split("\0")


def _end(process_id: int, name: str, seconds: float) -> None:
    if _ends(process_id, signal.SIGTERM, seconds):
        return
    if not _ends(process_id, signal.SIGKILL, KILLED_TIME):
        raise EnvironmentFailure(f"{name} (pid {process_id}) does not end")


def _ends(process_id: int, number: signal.Signals, seconds: float) -> bool:
    """Send a signal, and wait for the end of all threads; whether it came."""
    try:
        ended = os.pidfd_open(process_id)  # Its first thread may be gone long before the last.
    except ProcessLookupError:
        return True
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, number)
        return bool(select.select([ended], [], [], seconds)[0])
    finally:
        os.close(ended)
