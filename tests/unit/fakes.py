"""Fakes at the edges of the toolkit: a target, a sync process, a console that is kept."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from windsock.config import load
from windsock.events import to_line
from windsock.flow import Workspace
from windsock.model import Environment
from windsock.sync_process.server import ControlServer
from windsock.targets.base import Component
from windsock.targets.plan import Action, PlannedStep, UpStep
from windsock.terminal.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Sequence
    from pathlib import Path

    from windsock.config import Settings
    from windsock.events import Event
    from windsock.json_lines import Connection
    from windsock.targets.base import Checker, Operations, Target

Message = dict[str, Any]

SETTLED: Message = {"snapshot": "a" * 32, "errors": {}, "dags": ["sales"]}
IN_STEP: Message = {
    "connected": True,
    "busy": "",
    "halted": "",
    "snapshot": "a" * 32,
    "settled": True,
    "awaited": [],
    "parsed": 1,
    "files": 1,
    "dags": ["sales"],
    "errors": {},
    "problems": {},
    "troubles": [],
    "healthy": True,
    "summary": "sync: in step with the folder; 1 DAGs parsed",
}


class KeptConsole(Console):
    """A console whose two streams can be read."""

    def __init__(self) -> None:
        self.data, self.status = io.StringIO(), io.StringIO()
        super().__init__(data=self.data, status=self.status)

    @property
    def said(self) -> str:
        """All of the status."""
        return self.status.getvalue()

    @property
    def answer(self) -> Any:
        """The data, which must be one JSON document."""
        return json.loads(self.data.getvalue())


class FakeTarget:
    """A target that records its verbs, and fails where a test wants it.

    Args:
        environment: What it brings up.
        running: Whether it is up already.
        fails: Verb → what it raises.

    Attributes:
        meanwhile: Verb → what happens while it runs.
        make_another: Makes the target of a rebuild.
    """

    name = "fake"
    component_names: Sequence[str] = ("scheduler", "sync")

    def __init__(
        self,
        environment: Environment,
        *,
        running: bool = False,
        fails: dict[str, BaseException] | None = None,
    ) -> None:
        self.verbs: list[str] = []
        self.environment = environment
        self.is_running = running
        self.fails = fails or {}
        self.meanwhile: dict[str, Callable[[], object]] = {}
        self.is_locked = False
        self.asked_for_health: bool | None = None
        self.outcomes: list[Message] = []
        self.log_lines = ["one", "two"]
        self.asked: list[Any] = []
        self.source_files: list[Path] = []
        self.make_another: Callable[[], FakeTarget] = lambda: self
        self.consequence = "it must be rebuilt"
        self.components = [
            Component(name="sync", state="running", detail="pid 3"),
            Component(name="scheduler", state="running", detail="pid 4", healthy=True),
        ]

    def _do(self, verb: str) -> None:
        self.verbs.append(verb)
        self.meanwhile.get(verb, lambda: None)()
        if verb in self.fails:
            raise self.fails[verb]

    def running(self) -> Environment | None:
        return self.environment if self.is_running else None

    def for_rebuild(self) -> FakeTarget:
        return self.make_another()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        self._do("lock")
        self.is_locked = True
        try:
            yield
        finally:
            self.is_locked = False
            self._do("unlock")

    def _step(self, verb: str) -> UpStep:
        there = Action.NONE if self.is_running else Action.MAKE
        planned = PlannedStep(what=verb, action=there, why="it is new", seconds=60)
        return UpStep(plan=lambda: planned, run=lambda _console: self._do(verb))

    def prepare(self) -> Sequence[UpStep]:
        return [self._step("prepare")]

    def deploy(self) -> Sequence[UpStep]:
        return [self._step("deploy")]

    def wait(self, console: Console) -> Environment:
        del console
        self._do("wait")
        self.is_running = True
        return self.environment

    def sources(self) -> Sequence[Path]:
        return self.source_files

    def meaning(self, changed: Collection[Path]) -> str:
        if "meaning" in self.fails:
            raise self.fails["meaning"]
        return self.consequence if any(path.name != "unused.txt" for path in changed) else ""

    def down(self, console: Console, *, volumes: bool) -> None:
        del console
        self._do("wipe" if volumes else "down")
        self.is_running = False

    def end(self, console: Console) -> None:
        del console
        self._do("end")
        self.is_running = False

    def give_up(self, console: Console) -> None:
        del console
        self._do("give up")
        self.is_running = False

    def status(self, *, health: bool = True) -> list[Component]:
        self.asked_for_health = health
        return self.components

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        self.asked.append((component, follow, lines))
        yield from self.log_lines
        if "logs" in self.fails:
            raise self.fails["logs"]

    def restart(self, console: Console, component: str | None) -> None:
        del console
        self._do(f"restart {component}")

    def shell(self, command: Sequence[str]) -> int:
        self.asked.append(list(command))
        return 7


class FakeChecker:
    """Imports no DAG: its outcomes are those that a test gave to the target."""

    def __init__(self, target: FakeTarget) -> None:
        self._target = target

    def prepare(self, console: Console) -> None:
        del console
        self._target.verbs.append("prepare")

    def check(self, folder: str, *, progress: Callable[[str], None]) -> Generator[Message]:
        self._target.asked.append(folder)
        for outcome in self._target.outcomes:
            progress(f"importing {outcome['file']}")
            yield outcome
        self._target._do("check")


def conforms(target: FakeTarget) -> Target:
    """For the type checker: the fake has all that a target has."""
    return target


@dataclass(frozen=True, kw_only=True)
class FakeWorkspace(Workspace):
    """A workspace on a fake target and a kept console.

    Attributes:
        fake: The target.
        wanted: The settings that it was asked for with, in order.
    """

    fake: FakeTarget
    wanted: list[Settings] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, target: FakeTarget, **values: Any) -> FakeWorkspace:
        (folder / "dags").mkdir(exist_ok=True)
        settings = load({"state": str(folder / "state"), **values}, project=folder)
        return cls(settings=settings, console=KeptConsole(), fake=target)

    @property
    def kept(self) -> KeptConsole:
        assert isinstance(self.console, KeptConsole)
        return self.console

    def target(self) -> Target:
        self.wanted.append(self.settings)
        return self.fake

    def operations(self) -> Operations:
        return self.fake

    def checker(self) -> Checker:
        return FakeChecker(self.fake)


class FakeSync:
    """A sync process: the real control socket, with answers that a test sets.

    Attributes:
        requests: What was asked, in order.
        barrier: The answer to a barrier, or what it raises.
        attached: Set once a terminal listens.
        holder: Who syncs instead of us.
        pods: What is known of the pods of tasks.
        meanwhile: Called with the name of each request before its answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Message] = []
        self.barrier: Message | Exception = dict(SETTLED)
        self.state: Message = dict(IN_STEP)
        self.attached = threading.Event()
        self.holder = ""
        self.pods: list[Message] = []
        self.meanwhile: Callable[[str], object] = lambda _: None
        self._server: ControlServer | None = None

    def start(self) -> None:
        server = _AttachTold(
            self.path,
            {
                "status": self._on("status", lambda: self.state),
                "barrier": self._on("barrier", lambda: self.barrier),
                "allow-empty": self._on("allow-empty", lambda: {"allowed": True}),
                "take-over": self._on("take-over", lambda: {"from": self.holder}),
                "hold": self._on("hold", lambda: {"held": True}),
                "release": self._on("release", lambda: {"released": True}),
                "waiting-pods": self._on("waiting-pods", lambda: {"pods": self.pods}),
                "failed-pods": self._on("failed-pods", lambda: {"pods": self.pods}),
            },
            attached=self.attached,
        )
        server.start()
        self._server = server

    def _on(
        self, name: str, answer: Callable[[], Message | Exception]
    ) -> Callable[[Message], Message]:
        def handle(request: Message) -> Message:
            self.requests.append({**request, "request": name})
            self.meanwhile(name)
            result = answer()
            if isinstance(result, Exception):
                raise result
            return result

        return handle

    @property
    def asked(self) -> list[str]:
        return [request["request"] for request in self.requests]

    def publish(self, *events: Event) -> None:
        """Tell the attached terminals, of which there must be one."""
        assert self.attached.wait(10)
        assert self._server is not None
        for event in events:
            self._server.publish(to_line(event))

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.attached.clear()


class _AttachTold(ControlServer):
    """A control server that says when a client is attached."""

    def __init__(self, *arguments: Any, attached: threading.Event) -> None:
        self._attached = attached
        super().__init__(*arguments)

    def _take(self, line: bytes, client: Connection) -> None:
        super()._take(line, client)
        if b'"attach"' in line:
            self._attached.set()


def environment(folder: Path, *, socket: Path) -> Environment:
    """An environment whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "admin-password"
    password.write_text("hush-hush\n")
    return Environment(
        target="fake",
        url="http://127.0.0.1:18080",
        user="admin",
        password_file=str(password),
        control_socket=str(socket),
        dags_folder="/home/me/dags",
        airflow="3.3.2",
    )
