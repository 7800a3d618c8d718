"""One `up` at a time: a lock on the state folder that ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.local.files import cannot, private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "lock"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: Its process; 0 if it has not said so yet.
        since: When it took the lock, in seconds since the epoch.
        command: Its command line.
    """

    pid: int
    since: float
    command: str


class StateLock:
    """The lock of a state folder. The kernel frees it when its process ends, even by `kill -9`.

    Args:
        folder: The state folder; made if needed.
        clock: Seconds since the epoch.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._file: IO[str] | None = None

    def acquire(self) -> Holder | None:
        """Take the lock without waiting.

        Returns:
            None if it is ours now; else who holds it.

        Raises:
            EnvironmentFailure: The lock file cannot be made.
        """
        private_folder(self._folder)
        path = self._folder / FILE
        try:
            # Not inherited by the processes that an `up` starts: Python opens files so.
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise cannot(f"open {path}", error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                return _read(file)
        except OSError as error:
            file.close()
            raise cannot(f"lock {path}", error) from error
        self._file = file
        self._write(file)
        return None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while an environment is brought up.

        Raises:
            EnvironmentFailure: Somebody else does so right now, or the lock file cannot be made.
        """
        holder = self.acquire()
        if holder is not None:
            since = time.strftime("%H:%M:%S", time.localtime(holder.since))
            raise EnvironmentFailure(
                f"`{holder.command}` (pid {holder.pid}) is bringing this environment up "
                f"since {since}",
                "Wait until it is up; `invoke up` then attaches to it.",
            )
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _write(self, file: IO[str]) -> None:
        holder = Holder(pid=os.getpid(), since=self._clock(), command=shlex.join(sys.argv))
        try:
            file.truncate(0)
            file.write(json.dumps(asdict(holder)))
            file.flush()
        except OSError as error:  # a full disk: the lock holds all the same
            self.release()
            raise cannot(f"write {self._folder / FILE}", error) from error


def _read(file: IO[str]) -> Holder:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # it took the lock this very moment
        return Holder(pid=0, since=0.0, command="")
