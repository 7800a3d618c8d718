"""The lock of a store: which agent may write it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from typing import Any


class StoreLock:
    """The holder is the agent whose file is at the path, and flocked.

    To take the lock from it, another agent replaces that file by its own. The holder checks before
    each change, and at least twice a second, that the file at the path is its own; else it ends.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, client: str, *, take_over: bool, patience: float = 5.0) -> dict[str, Any]:
        """Take the lock.

        Args:
            client: Whose agent this is; it may always take the lock from its own former agent.
            take_over: Take it from another client, too.
            patience: Seconds that the former holder has to end.

        Returns:
            Nothing (an empty mapping), or the holder as in `holder`.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if self._try_lock(descriptor):
                if self._is_at_path(descriptor):
                    self._sign(descriptor, client)
                    return {}
                os.close(descriptor)
                continue
            holder = _read_holder(descriptor)
            if take_over or holder.get("client") == client:
                self._take(descriptor, client, patience=patience)
                return {}
            os.close(descriptor)
            return holder

    def holder(self) -> dict[str, Any]:
        """The agent that has the lock: pid, host, since (seconds of the wall clock), client."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            return _read_holder(descriptor)
        finally:
            os.close(descriptor)

    def is_ours(self) -> bool:
        """Whether we are the holder."""
        return self._descriptor >= 0 and self._is_at_path(self._descriptor)

    def release(self) -> None:
        """Give the lock back; the file stays, and is empty."""
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
        # A holder that does not end in time is frozen. When it wakes, it checks the lock before it
        # moves `current`, so it does no harm.
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


def _read_holder(descriptor: int) -> dict[str, Any]:
    try:
        holder: dict[str, Any] = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:  # It is just starting.
        return {"pid": 0, "host": "?", "since": 0.0}
    return holder
