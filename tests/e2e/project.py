"""A project whose environment the tests drive as a user does: by its commands, in its own folders.

A `Project` runs `python -m invoke …` with INVOKE_* variables, and reads only what a script could
read. Its clients are those that windsock offers to scripts.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TypeVar

from windsock.airflow.api import Airflow
from windsock.model import Environment
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "dags"
PATIENCE = 60.0
"""Seconds until an event must have happened, on a slow machine."""
COMMAND_SECONDS = 240.0
"""The same for a whole command, be it a first `invoke up`."""

INTERRUPTED = 130
Found = TypeVar("Found")


def eventually(
    condition: Callable[[], Found], what: str, *, timeout: float = PATIENCE, every: float = 0.05
) -> Found:
    """Ask until the answer is true, and return it; the test fails if it never is."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)


def clean_variables() -> dict[str, str]:
    """The environment variables without those of windsock, pytest and Airflow."""
    ours = ("INVOKE_", "WINDSOCK_", "PYTEST_", "AIRFLOW_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True, kw_only=True)
class Project:
    """The folders of one environment, and its commands.

    Attributes:
        home: The folder of the DAG folder and the state folder.
        variables: INVOKE_* variables in addition to those of its files.
        patience: Seconds until a command that does not end is taken as hanging.
    """

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    patience: float = COMMAND_SECONDS

    @property
    def dags(self) -> Path:
        """The folder whose saves are synced."""
        return self.home / "dags"

    @property
    def settings(self) -> Path:
        """The file of connections, variables and pools."""
        return self.home / "airflow_settings.yaml"

    @property
    def env_file(self) -> Path:
        """The file of environment variables."""
        return self.home / ".env"

    @property
    def state(self) -> Path:
        """Everything that windsock makes."""
        return self.home / "state"

    @property
    def model(self) -> Environment:
        """The environment that is up."""
        return Environment.load(self.state)

    @cached_property
    def airflow(self) -> Airflow:
        """A client of its REST API; connects when it is first used."""
        return Airflow.of(self.model)

    def close(self) -> None:
        """Close the client's connections, if there are any."""
        client = self.__dict__.pop("airflow", None)
        if client is not None:
            client.close()

    @property
    def control(self) -> ControlClient:
        """A client of its sync process."""
        return ControlClient(self.model.control_socket)

    def environ(self, **variables: str) -> dict[str, str]:
        """The variables that its commands get; the given ones win."""
        return {
            **clean_variables(),
            # Tests trigger runs by the API, too, and that unpauses nothing.
            "INVOKE_WINDSOCK_RUN_SCHEDULES": "true",
            "INVOKE_WINDSOCK_STATE": str(self.state),
            "INVOKE_WINDSOCK_DAGS": str(self.dags),
            "INVOKE_WINDSOCK_AIRFLOW_SETTINGS": str(self.settings),
            "INVOKE_WINDSOCK_ENV_FILE": str(self.env_file),
            **self.variables,
            **variables,
        }

    def invoke(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, whatever its exit code; stdin is empty."""
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=ROOT,
            env=self.environ(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )

    def up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """`invoke up --detach`, which must succeed, also where other settings were up before."""
        done = self.invoke("up", "--detach", "--replace", **variables)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log_ends()}"
        return done

    @contextmanager
    def brought_up(self) -> Iterator[Self]:
        """Its environment is up during the block, and all that it stored is removed at the end."""
        try:
            self.up()
            yield self
        finally:
            self.close()
            down = self.invoke("down", "--volumes")
            assert down.returncode == 0, down.stderr

    def start(self, *arguments: str, **variables: str) -> Command:
        """Start a command without waiting for its end; to be used in a `with` statement."""
        return Command(arguments, environ=self.environ(**variables))

    def log_ends(self, lines: int = 15) -> str:
        """The end of every component's log, for the message of a failing test."""
        ends = []
        for path in sorted((self.state / "logs").glob("*.log")):
            ends.append(f"--- {path.name}")
            ends += path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(ends)


class Command:
    """A running `invoke` command, whose lines can be waited for.

    Args:
        arguments: Of invoke.
        environ: All its variables.
    """

    def __init__(self, arguments: Sequence[str], *, environ: Mapping[str, str]) -> None:
        self._said = threading.Condition()
        self._open_streams = 2
        """How many of stdout and stderr have not ended."""
        self.arguments = tuple(arguments)
        self.lines: list[str] = []
        """What it wrote to stderr, the stream for windsock's status."""
        self.data: list[str] = []
        """What it wrote to stdout."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # As a shell does it: Ctrl-C goes to the whole group of the command, not to us.
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self.process.stderr, self.lines),
                (self.process.stdout, self.data),
            )
        ]

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._said:
                lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._open_streams -= 1
            self._said.notify_all()

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def wait_for(self, pattern: str, *, after: int = 0, timeout: float = PATIENCE) -> str:
        """The first line of status that the pattern is found in, from line `after` on."""

        def found() -> str | None:
            return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

        with self._said:
            self._said.wait_for(lambda: found() or not self._open_streams, timeout=timeout)
        line = found()
        assert line is not None, f"no line with {pattern!r} within {timeout} s:\n{self.text()}"
        return line

    def text(self) -> str:
        """All that it has written so far."""
        return "\n".join([f"$ invoke {' '.join(self.arguments)}", *self.data, *self.lines])

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """`kill -9` of the command itself, not of what it started."""
        self.process.kill()

    def end(self, *, timeout: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code, 130 after an interrupt, as in a shell."""
        code = self.process.wait(timeout)
        if code == -signal.SIGINT:
            # `python -m` ends in this way if the interrupt came while Python executed text, as it
            # does to make a dataclass, although the command handled it and asked for 130.
            code = INTERRUPTED
        for reader in self._readers:
            # With a timeout: a process that it started may have the stream open for longer.
            reader.join(timeout=2)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None and not any(reader.is_alive() for reader in self._readers):
                stream.close()
        return code
