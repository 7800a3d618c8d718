"""One `up` at a time: a lock on the state folder that ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def locked_by(folder: Path) -> str:
    """The command that has the lock of a state folder, with its pid; empty if none has it."""
    owner = _owner(folder / FILE)
    try:
        os.kill(owner["pid"], 0)  # A command that was killed has left its name.
    except (LookupError, OSError, TypeError):
        return ""
    return _command(owner)


def _owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Nobody has the lock, or somebody took it this very moment.
        return {}
    return owner if isinstance(owner, dict) else {}


def _command(owner: Mapping[str, Any]) -> str:
    return f"`{owner.get('command')}` (pid {owner.get('pid')})"


def _busy(path: Path) -> EnvironmentFailure:
    owner = _owner(path)
    try:
        since = time.strftime("%H:%M:%S", time.localtime(owner["since"]))
        who = f"{_command(owner)} is bringing this environment up since {since}"
    except (LookupError, TypeError):
        who = "another command is bringing this environment up"
    return EnvironmentFailure(who, "Wait until it is up; `invoke up` then attaches to it.")
