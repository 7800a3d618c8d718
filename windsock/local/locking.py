"""One `up` at a time: a lock on the state folder that ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "lock"


@contextlib.contextmanager
def state_lock(folder: Path) -> Iterator[None]:
    """Lock a state folder while its environment is brought up; the lock file names the command.

    The kernel frees the lock when its process ends, even by `kill -9`. Child processes do not
    inherit it.

    Args:
        folder: The state folder; made if needed.

    Raises:
        EnvironmentFailure: Another command has the lock, or the lock file cannot be made.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - not needed where all is up

    path = private_folder(folder) / FILE
    lock = FileLock(path, mode=0o600)
    owner = {"pid": os.getpid(), "since": time.time(), "command": shlex.join(sys.argv)}
    try:
        lock.acquire(blocking=False)
        path.write_text(json.dumps(owner), encoding="utf-8")
    except Timeout:
        raise _busy(path) from None
    except OSError as error:
        lock.release()
        raise cannot(f"lock {path}", error) from error
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # the folder was removed
            os.truncate(path, 0)
        lock.release()


def _busy(path: Path) -> EnvironmentFailure:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%H:%M:%S", time.localtime(owner["since"]))
        command = f"`{owner['command']}` (pid {owner['pid']})"
        who = f"{command} is bringing this environment up since {since}"
    except (OSError, ValueError, LookupError, TypeError):  # it took the lock this very moment
        who = "another command is bringing this environment up"
    return EnvironmentFailure(who, "Wait until it is up; `invoke up` then attaches to it.")
