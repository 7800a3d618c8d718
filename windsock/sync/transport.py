"""A byte stream to an agent: a child process on a pipe, or an exec into a pod."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Protocol, cast

from windsock.errors import EnvironmentFailure
from windsock.sync import bootstrap

if TYPE_CHECKING:
    from windsock.store.agent import Options

PIPE_BYTES = 1024 * 1024
LINES_KEPT = 50
PATIENCE = 2.0
"""Seconds until a process whose input is closed is killed."""


class Transport(Protocol):
    """A started agent's two streams. One thread reads, one writes; any thread may close."""

    def read(self, limit: int) -> bytes:
        """At least one byte and at most `limit`; nothing at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: The stream is broken or closed.
        """

    def close(self) -> None:
        """End both streams and the agent; a blocked `read` or `write` returns."""

    @property
    def alive(self) -> bool:
        """Whether the other side runs, as far as is known."""

    def diagnosis(self) -> str:
        """The last lines of the other side's error stream."""


class ProcessTransport:
    """A child process in its own process group, on pipes.

    Raises:
        EnvironmentFailure: The command cannot be started.
    """

    def __init__(self, command: list[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentFailure(
                f"{command[0]} cannot be started: {error.strerror}",
                "Check that this Python interpreter exists and may be run.",
            ) from None
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._errors = cast("IO[bytes]", self._process.stderr)
        for pipe in (self._input, self._output):
            # Only Linux can do this, within a limit for each user.
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._listener = threading.Thread(
            target=self._listen, name="windsock-sync-errors", daemon=True
        )
        self._listener.start()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    def read(self, limit: int) -> bytes:
        """At least one byte of stdout and at most `limit`; nothing at its end."""
        try:
            return self._output.read(limit) or b""
        except (OSError, ValueError):  # closed
            return b""

    def write(self, data: bytes) -> None:
        """Write all of it to stdin; raises OSError when that is closed."""
        view = memoryview(data)
        while view:
            try:
                written = self._input.write(view)
            except ValueError:
                raise BrokenPipeError("the transport is closed") from None
            view = view[written or 0 :]

    def close(self) -> None:
        """Close the child's input; a child that does not end by that is killed."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()
        self._listener.join()
        self._errors.close()

    def diagnosis(self) -> str:
        """The last lines of stderr."""
        return "\n".join(self._lines)

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._errors:
                self._lines.append(line.decode("utf-8", "replace").rstrip()[:1000])


def local_transport(options: Options) -> ProcessTransport:
    """Start the agent on this machine."""
    return process_transport(bootstrap.command(sys.executable, options))


def process_transport(command: list[str]) -> ProcessTransport:
    """Start a command that ends in `bootstrap.command`, and send the agent.

    Raises:
        EnvironmentFailure: The command cannot be started.
    """
    transport = ProcessTransport(command)
    with contextlib.suppress(OSError):  # A child that ended at once explains that on its stderr.
        transport.write(bootstrap.greeting())
    return transport
