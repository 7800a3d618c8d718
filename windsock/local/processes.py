"""Run the programs of an environment under supervisord: the one owner of `supervisor`.

supervisord is a daemon of its own session, so it survives the terminal and the `up` that started
it. It works in the state folder, and answers XML-RPC over a unix socket that only this user can
open. Its API: https://supervisord.org/api.html
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.files import cannot, private_folder, write_whole
from windsock.local import launch
from windsock.local.commands import run
from windsock.local.orphans import mark, marked, reap, wait_gone
from windsock.local.programs import LOGS, RUN, Program, configuration
from windsock.local.remote import Fault, Remote
from windsock.local.sockets import forget_sockets, socket_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOCKET = "supervisor.sock"
CONFIGURATION = f"{RUN}/supervisord.conf"
POLL_SECONDS = 0.05
TAIL_BYTES = 256 * 1024

RUNNING = ("STARTING", "RUNNING")
ENDED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
FAILED = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")

_ALREADY_STARTED, _NOT_RUNNING, _BAD_NAME = 60, 70, 10  # faults of the supervisor's API


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """The supervisor's record of one program.

    Attributes:
        name: The program.
        state: STOPPED, STARTING, RUNNING, BACKOFF (it died while starting and is tried again),
            STOPPING, EXITED, FATAL (given up) or UNKNOWN.
        pid: Its process; 0 if it has none.
        since: When the program was last started, or stopped if it does not run; None if never.
        description: The supervisor's own words.
    """

    name: str
    state: str
    pid: int
    since: datetime | None
    description: str

    @property
    def running(self) -> bool:
        """Whether it has a process that is not known to be failing."""
        return self.state in RUNNING


class Supervisor:
    """The supervisor of one state folder.

    Args:
        state: The state folder; logs go to `logs/<program>.log` in it.
        password: For its socket; the same for every command of this environment.
        inherited: Variables that every program inherits. A change of them restarts nothing.
    """

    def __init__(self, state: Path, *, password: str, inherited: Mapping[str, str]) -> None:
        self._state = state.resolve()
        self._password = password
        self._inherited = {**inherited, **mark(self._state)}
        self._socket = socket_path(self._state / RUN, SOCKET)
        self._remote = Remote(self._socket, password)

    def apply(self, programs: Iterable[Program]) -> None:
        """Make these the supervised programs, and start the supervisor if it does not run.

        No program is started, and a program that did not change goes on running. A program whose
        description changed, or that is not wanted any more, is stopped. Where the supervisor was
        killed, the processes that it left behind are ended.

        Raises:
            EnvironmentFailure: The supervisor cannot be started.
        """
        wanted = list(programs)
        self._write(wanted)
        if self.alive():
            self._reload()
        else:
            reap(self._state)
            self._socket.unlink(missing_ok=True)
            self._start_daemon()
        self._tidy(wanted)

    def alive(self) -> bool:
        """Whether the supervisor runs and accepts our password."""
        try:
            return bool(self._remote.call("getState")["statecode"] == 1)
        except EnvironmentFailure:
            return False

    def start(self, *names: str) -> None:
        """Start programs, without waiting until they work; those that run already go on.

        Raises:
            EnvironmentFailure: One cannot be started at all.
        """
        for name in names:
            try:
                self._remote.call("startProcess", name, False)
            except Fault as fault:
                if fault.code != _ALREADY_STARTED:
                    raise self._failure(name, fault.text) from fault

    def stop(self, *names: str) -> None:
        """Stop programs with their whole process groups, together, and wait for their end.

        Raises:
            DeadlineExceeded: One would not end, not even killed.
        """
        for name in names:
            try:
                self._remote.call("stopProcess", name, False)
            except Fault as fault:
                if fault.code not in (_NOT_RUNNING, _BAD_NAME):
                    raise self._failure(name, fault.text) from fault
        patience = [item["stopwaitsecs"] for item in self._described() if item["name"] in names]
        deadline = time.monotonic() + max(patience, default=0) + 5
        while True:
            states = self.states()
            left = [name for name in names if name in states and states[name].state not in ENDED]
            if not left:
                return
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"{', '.join(left)} did not stop, not even killed")
            time.sleep(POLL_SECONDS)

    def restart(self, *names: str) -> None:
        """Stop programs and start them again."""
        self.stop(*names)
        self.start(*names)

    def states(self) -> dict[str, ProcessState]:
        """Every program's state by its name, in the order of stages.

        Raises:
            EnvironmentFailure: The supervisor does not run.
        """
        return {
            item["name"]: _process_state(item) for item in self._remote.call("getAllProcessInfo")
        }

    def check(self, *names: str) -> None:
        """Raise if one of these programs does not run.

        Call it while you wait for a program to become ready: one that has ended never will.

        Raises:
            EnvironmentFailure: With the last lines of its log.
        """
        states = self.states()
        for name in names:
            state = states.get(name)
            if state is None or state.state in FAILED or state.state == "STOPPED":
                raise self._failure(name, state.description if state else "not known")

    def log_file(self, name: str) -> Path:
        """Where a program's output goes; older output is next to it as `.log.1` and `.log.2`."""
        return self._state / LOGS / f"{name}.log"

    def tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a program's output; empty if it has written nothing yet."""
        try:
            with self.log_file(name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise cannot(f"read {self.log_file(name)}", error) from error
        return "\n".join(text.splitlines()[-lines:])

    def shutdown(self) -> None:
        """Stop everything: programs by stage, the supervisor, whatever else carries our mark.

        Raises:
            EnvironmentFailure: Something is left that cannot be ended.
        """
        if self.alive():
            self._stop_by_stage()
            self._stop_daemon()
        reap(self._state)
        self._socket.unlink(missing_ok=True)
        left = marked(self._state)
        if left:
            raise EnvironmentFailure(
                "some processes do not end: " + ", ".join(str(process.pid) for process in left),
                "End them by hand; `ps -p <pid>` shows what they are.",
            )
        forget_sockets(self._socket)

    def _stop_by_stage(self) -> None:
        described = self._described()
        for stage in sorted({item["process_prio"] for item in described}, reverse=True):
            names = [item["name"] for item in described if item["process_prio"] == stage]
            try:
                self.stop(*names)
            except DeadlineExceeded:
                return  # the daemon's own shutdown, then the reaper, are next

    def _stop_daemon(self) -> None:
        try:
            daemon = psutil.Process(self._remote.call("getPID"))
            self._remote.call("shutdown")
        except (psutil.NoSuchProcess, EnvironmentFailure):
            return  # gone already
        for process in wait_gone([daemon], seconds=5):
            process.kill()  # what it leaves is reaped next

    def _described(self) -> list[dict[str, Any]]:
        """The supervisor's configuration of programs."""
        found: list[dict[str, Any]] = self._remote.call("getAllConfigInfo")
        return found

    def _write(self, programs: list[Program]) -> None:
        private_folder(self._state)
        folder = private_folder(self._state / RUN)
        socket_path(folder, SOCKET, make=True)
        private_folder(folder / "programs")
        private_folder(self._state / LOGS)
        for program in programs:
            write_whole(self._state / program.description_file, program.describe(self._inherited))
        try:
            _link(folder / "python", Path(sys.executable).resolve())
            launcher = Path(launch.__file__).read_text(encoding="utf-8")
        except OSError as error:
            raise cannot(f"write to {folder}", error) from error
        write_whole(folder / "launch.py", launcher)
        umask = os.umask(0o077)
        os.umask(umask)
        own = self._socket.parent == folder
        text = configuration(
            programs,
            socket=f"{RUN}/{SOCKET}" if own else str(self._socket),
            password=self._password,
            umask=umask,
        )
        write_whole(self._state / CONFIGURATION, text)

    def _tidy(self, programs: list[Program]) -> None:
        """Remove descriptions that nothing refers to any more."""
        wanted = {self._state / program.description_file for program in programs}
        for path in (self._state / RUN / "programs").iterdir():
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _start_daemon(self) -> None:
        keep = ("PATH", "HOME", "PYTHONPATH", "TMPDIR")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        started = run(
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", CONFIGURATION],
            # UTF-8 everywhere: the supervisor handles the programs' output as text.
            environment={**environment, **mark(self._state), "PYTHONUTF8": "1"},
            folder=self._state,
            seconds=30,
        )
        if started.code != 0:
            raise EnvironmentFailure("the supervisor does not start", started.last_lines(10))

    def _reload(self) -> None:
        [[added, changed, removed]] = self._remote.call("reloadConfig")
        self.stop(*changed, *removed)
        for name in (*changed, *removed):
            self._remote.call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._remote.call("addProcessGroup", name)

    def _failure(self, name: str, why: str) -> EnvironmentFailure:
        tail = self.tail(name)
        hint = f"The end of {self.log_file(name)}:\n{tail}" if tail else "It wrote nothing."
        return EnvironmentFailure(f"{name} does not run: {why}", hint)


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink() or path.readlink() != target:
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _process_state(item: dict[str, Any]) -> ProcessState:
    started, stopped = item["start"], item["stop"]
    seconds = stopped if item["statename"] in ENDED and stopped else started
    return ProcessState(
        name=item["name"],
        state=item["statename"],
        pid=item["pid"],
        since=datetime.fromtimestamp(seconds, UTC) if seconds else None,
        description=item["spawnerr"] or item["description"],
    )
