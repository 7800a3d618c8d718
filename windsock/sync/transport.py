"""A byte stream to an agent: a child process on a pipe, or an exec into a pod."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from windsock.errors import EnvironmentFailure
from windsock.sync import bootstrap

if TYPE_CHECKING:
    from windsock.store.agent import Options

PIPE_BYTES = 1024 * 1024
LINES_KEPT = 50
PATIENCE = 2.0
"""Seconds a process has to end after its pipes are closed, before it is killed."""


class Transport(Protocol):
    """A started agent's two streams. One thread reads, another one writes; anybody closes."""

    def read(self, limit: int) -> bytes:
        """At least one byte and at most `limit`; nothing at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: The stream is broken or closed.
        """

    def close(self) -> None:
        """End both streams and what is behind them; a blocked `read` or `write` returns."""

    @property
    def alive(self) -> bool:
        """Whether the other side has not ended, as far as one can know."""

    def diagnosis(self) -> str:
        """The last lines of the other side's error stream."""


class ProcessTransport:
    """A child process in a group of its own, on pipes.

    Args:
        command: What to run.

    Raises:
        EnvironmentFailure: It cannot be started.
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
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("the pipes were asked for")
        self._input, self._output, self._errors = process.stdin, process.stdout, process.stderr
        for pipe in (self._input, self._output):
            with contextlib.suppress(
                OSError, AttributeError
            ):  # only Linux has it; limits may apply
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._listener = threading.Thread(
            target=self._listen, name="windsock-sync-errors", daemon=True
        )
        self._listener.start()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    def read(self, limit: int) -> bytes:
        """See `Transport`."""
        try:
            return self._output.read(limit) or b""
        except (OSError, ValueError):  # closed
            return b""

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        view = memoryview(data)
        while view:
            try:
                written = self._input.write(view)
            except ValueError:
                raise BrokenPipeError("the transport is closed") from None
            view = view[written or 0 :]

    def close(self) -> None:
        """End the child: it ends by itself when its input does, or is killed."""
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
        """See `Transport`."""
        return "\n".join(self._lines)

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._errors:
                self._lines.append(line.decode("utf-8", "replace").rstrip()[:1000])


def local_transport(python: str, options: Options) -> ProcessTransport:
    """Start the agent on this machine.

    Args:
        python: The interpreter to run it with; any Python ≥ 3.11.
        options: How the agent works.
    """
    return process_transport(bootstrap.command(python, options.as_json()))


def process_transport(command: list[str]) -> ProcessTransport:
    """Start a command that ends in the agent's loader, and send the agent.

    Args:
        command: See `bootstrap.command`; with something before it, it may run elsewhere.
    """
    transport = ProcessTransport(command)
    with contextlib.suppress(OSError):  # a child that ended at once explains it on its error stream
        transport.write(bootstrap.greeting())
    return transport
