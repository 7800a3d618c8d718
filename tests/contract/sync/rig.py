"""A folder, a store and a session between them, over any transport."""

# The names of files are bytes here; pathlib knows only text.
# ruff: noqa: PTH114, PTH115, PTH123

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from windsock import events
from windsock.store.agent import Agent, Options
from windsock.store.entries import Row, canonical, content_digest, identify
from windsock.sync import bootstrap
from windsock.sync.session import SyncSession
from windsock.sync.times import SyncTimes
from windsock.sync.transport import (
    ProcessTransport,
    Transport,
    local_transport,
    process_transport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windsock.store.store import Store
    from windsock.sync.scan import Difference

DEADLINE = 30.0
SESSION = "session"
"""The name of the thread that a session runs in."""
FAST = SyncTimes(quiet=0.005, longest=0.1, retry_first=0.01, retry_longest=0.05)

EventType = TypeVar("EventType", bound=events.Event)


def wait_until(condition: Callable[[], Any], what: str, *, timeout: float = DEADLINE) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.005)


def content_of(folder: Path) -> dict[str, Row]:
    """Everything in a folder, by a walk of our own, as rows; nothing if there is no folder."""
    rows: dict[str, Row] = {}
    root = os.fsencode(folder)
    for place, folders, names in os.walk(root):
        for name in [*names, *(each for each in folders if os.path.islink(place + b"/" + each))]:
            path = place + b"/" + name
            relative = path[len(root) + 1 :].decode()
            if os.path.islink(path):
                rows[relative] = ("link", 0, 0, os.readlink(path).decode())
            else:
                with open(path, "rb") as file:
                    data = file.read()
                    mode = os.fstat(file.fileno()).st_mode & 0o777
                state = content_digest()
                state.update(data)
                rows[relative] = ("file", mode, len(data), state.hexdigest())
    return rows


def tree_id_of(folder: Path) -> str:
    """The tree id of what a folder holds, by `content_of`."""
    return identify(canonical(content_of(folder)))


class MemoryTransport:
    """An agent in a thread of this process, on two pipes."""

    def __init__(self, options: Options, *, store: Store | None = None) -> None:
        agent_reads, self._input = os.pipe()
        self._output, agent_writes = os.pipe()
        self._closing = threading.Lock()
        self._closed = False

        def serve() -> None:
            try:
                Agent(options, reader=agent_reads, writer=agent_writes, store=store).run()
            finally:
                os.close(agent_reads)
                os.close(agent_writes)

        self._thread = threading.Thread(target=serve, name="agent")
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def read(self, limit: int) -> bytes:
        try:
            return os.read(self._output, limit)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._closed:
                raise BrokenPipeError
            view = view[os.write(self._input, view) :]

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        os.close(self._input)
        # Somebody may still read: the agent's last words, or what keeps it from ending.
        while self._thread.is_alive():
            self._thread.join(0.01)
            with contextlib.suppress(OSError):
                os.set_blocking(self._output, False)
                os.read(self._output, 1 << 20)
        os.close(self._output)

    def diagnosis(self) -> str:
        return ""


class CutTransport:
    """Breaks after so many bytes written or read."""

    def __init__(self, inner: Transport, *, written: int = 1 << 60, read: int = 1 << 60) -> None:
        self._inner = inner
        self._written = written
        self._read = read

    @property
    def alive(self) -> bool:
        return self._inner.alive

    def read(self, limit: int) -> bytes:
        if self._read <= 0:
            return b""
        data = self._inner.read(min(limit, self._read))
        self._read -= len(data)
        return data

    def write(self, data: bytes) -> None:
        part = data[: self._written]
        self._inner.write(part)
        self._written -= len(part)
        if len(part) < len(data):
            self._inner.close()
            raise BrokenPipeError

    def close(self) -> None:
        self._inner.close()

    def diagnosis(self) -> str:
        return self._inner.diagnosis()


class SlowTransport:
    """Takes its time for what is written, as a slow line does."""

    def __init__(self, inner: Transport, *, piece: int, seconds: float) -> None:
        self._inner = inner
        self._piece = piece
        self._seconds = seconds
        self._closed = threading.Event()
        self.read = inner.read
        self.diagnosis = inner.diagnosis

    @property
    def alive(self) -> bool:
        return self._inner.alive

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), self._piece):
            self._closed.wait(self._seconds)
            self._inner.write(data[start : start + self._piece])

    def close(self) -> None:
        self._closed.set()
        self._inner.close()


SIGNAL_AT = """
import os as _os, signal as _signal, sys as _sys
_left = [{count}]
_waiting = [{after!r}]
def _hook(event, arguments):
    if event in {{"os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "open",
                 "os.chmod", "os.utime"}} and arguments and {store!r} in str(arguments):
        if _waiting and _waiting[0] not in str(arguments):
            return
        _waiting.clear()
        _left[0] -= 1
        if _left[0] == -1:
            if {told!r}:
                _os.close(_os.open({told!r} + str(_os.getpid()), _os.O_CREAT | _os.O_WRONLY))
            _os.kill(_os.getpid(), _signal.{signal})
_sys.addaudithook(_hook)
"""

AS_IN_A_POD = """
import os, subprocess, sys, threading
child = subprocess.Popen(
    sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    bufsize=0, start_new_session=True,
)
def forward():
    while data := os.read(child.stdout.fileno(), 65536):
        os.write(1, data)
    os._exit(child.wait())
threading.Thread(target=forward, daemon=True).start()
while data := os.read(0, 65536):
    child.stdin.write(data)
os._exit(0)
"""
"""Whoever hangs up reaches this process alone: what it stands for goes on, as in a pod."""

HURRY = """
import time as _time
_start, _monotonic = _time.monotonic(), _time.monotonic
_time.monotonic = lambda: _start + {times} * (_monotonic() - _start)
"""


def prefixed(options: Options, prefix: str) -> list[str]:
    """The command of an agent that runs some Python before it loads."""
    command = bootstrap.command(sys.executable, options)
    return [*command[:-2], prefix + command[-2], command[-1]]


def doomed_transport(options: Options, *, count: int) -> ProcessTransport:
    """An agent that kills itself (-9) at its `count`th touch of a file in the store."""
    prefix = SIGNAL_AT.format(count=count, after="", store=options.store, told="", signal="SIGKILL")
    return process_transport(prefixed(options, prefix))


def freezing_transport(
    options: Options, *, count: int, told: str, after: str = ""
) -> ProcessTransport:
    """An agent that stops (SIGSTOP) right before its `count`th touch of a file in the store.

    Whoever hangs up leaves it as it is.

    Args:
        options: Of the agent.
        count: From 0.
        told: A path; when it stops it makes a file there, whose name has its process id added.
        after: Count from the first touch on in which this is mentioned.
    """
    prefix = SIGNAL_AT.format(
        count=count, after=after, store=options.store, told=told, signal="SIGSTOP"
    )
    command = [sys.executable, "-I", "-S", "-c", AS_IN_A_POD, *prefixed(options, prefix)]
    return process_transport(command)


def hurried_transport(options: Options, *, times: int) -> ProcessTransport:
    """An agent for which time passes faster: it waits less for others."""
    options = options._replace(patience=options.patience * times)
    return process_transport(prefixed(options, HURRY.format(times=times)))


class Rig:
    """A folder `root`, a store `store`, and the means to sync them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.root = folder / "dags"
        self.store = folder / "store"
        self.root.mkdir(parents=True)
        self.socket = folder / "processor.sock"
        self.kind = kind
        self.options = Options(store=str(self.store), socket=str(self.socket))
        self.events: list[events.Event] = []
        self.changes: list[Difference] = []
        self.transports: list[Transport] = []
        self.wrap: Callable[[Transport], Transport] = lambda transport: transport
        self._changed = threading.Condition()

    def connect(self) -> Transport:
        inner: Transport
        if self.kind == "memory":
            inner = MemoryTransport(self.options)
        else:
            inner = local_transport(self.options)
        self.transports.append(inner)
        return self.wrap(inner)

    def on_event(self, event: events.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def session(self, **options: Any) -> SyncSession:
        return SyncSession(
            self.root,
            connect=options.pop("connect", self.connect),
            on_event=self.on_event,
            on_snapshot=lambda _, changes: self.changes.append(changes),
            times=options.pop("times", FAST),
            **options,
        )

    @contextlib.contextmanager
    def running(self, **options: Any) -> Iterator[SyncSession]:
        """A session that runs in a thread; its error, if any, is raised at the end."""
        session = self.session(**options)
        stop = threading.Event()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                session.run(stop)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=run, name=SESSION)
        thread.start()
        try:
            yield session
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]

    def of(self, kind: type[EventType]) -> list[EventType]:
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[EventType], *, count: int = 1) -> EventType:
        """The `count`th event of a kind, as soon as it has come."""
        deadline = time.monotonic() + DEADLINE
        with self._changed:
            while True:
                found = [event for event in self.events if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise AssertionError(f"no {kind.__name__} number {count} in {self.events}")

    @property
    def current(self) -> Path:
        return self.store / "current"

    def assert_equal(self) -> None:
        """The store holds exactly what the folder holds, under the right name."""
        assert content_of(self.current) == content_of(self.root)
        assert self.current.readlink().name == tree_id_of(self.root)

    def wait_equal(self) -> None:
        wait_until(self._is_equal, "the store equals the folder")
        self.assert_equal()

    def _is_equal(self) -> bool:
        """Whether it is so now; not while a switch takes a file away from under the walk."""
        try:
            return content_of(self.current) == content_of(self.root)
        except FileNotFoundError:
            return False

    def write(self, path: str, content: str | bytes = "x") -> Path:
        """Save like an editor that renames: no session that runs ever sees half of it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.root.parent / "fresh"
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
        return fresh.rename(file)
