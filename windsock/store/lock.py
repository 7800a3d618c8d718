"""Who may write the store."""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here, whatever the locale there; pathlib knows only text.
# ruff: noqa: PTH105, PTH116

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from typing import Any


class StoreLock:
    """Who may write the store: the one whose file lies at `lock` and is flocked.

    A taker puts its own locked file in the place of the holder's; the holder looks whether the
    file there is still its own, before it changes anything and at least twice a second, and ends.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, client: str, *, take_over: bool, patience: float = 5.0) -> dict[str, Any]:
        """Take the lock.

        Args:
            client: Whose agent this is; the same client may always take over from itself.
            take_over: Take it even from somebody else.
            patience: Seconds a holder that lost the lock has to end.

        Returns:
            Nothing (an empty mapping), or the holder: pid, host, since, client.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if self._try_lock(descriptor):
                if self._is_at_path(descriptor):
                    self._sign(descriptor, client)
                    return {}
                os.close(descriptor)
                continue
            holder = self._holder(descriptor)
            if take_over or holder.get("client") == client:
                self._take(descriptor, client, patience=patience)
                return {}
            os.close(descriptor)
            return holder

    def taker(self) -> dict[str, Any]:
        """Who has it now: pid, host, since, client."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            return self._holder(descriptor)
        finally:
            os.close(descriptor)

    def is_ours(self) -> bool:
        """Whether the file at the path is still ours."""
        return self._descriptor >= 0 and self._is_at_path(self._descriptor)

    def release(self) -> None:
        """Give it back; the file stays, and is empty."""
        if self._descriptor >= 0:
            if self.is_ours():
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self, old: int, client: str, *, patience: float) -> None:
        fresh = f"{self._path}.{uuid.uuid4().hex}"
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._try_lock(descriptor)
        self._sign(descriptor, client)
        os.replace(fresh, self._path)
        # A holder that does not end in time is hung: it looks at the lock before it moves
        # `current`, so going on does no harm.
        deadline = time.monotonic() + patience
        while not self._try_lock(old) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.close(old)

    def _sign(self, descriptor: int, client: str) -> None:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.time(),
            "client": client,
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode("ascii"), 0)
        self._descriptor = descriptor

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError:
            return False

    @staticmethod
    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def _holder(descriptor: int) -> dict[str, Any]:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
        except ValueError:
            holder = None  # it is just starting
        return holder if isinstance(holder, dict) else {"pid": 0, "host": "?", "since": 0.0}
