"""Running programs to their end, so that an interrupt leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

LAST_LINES = 15
"""How much of a failed program's output its error shows."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where Debian installs; a login shell's own may lack the sbin folders."""

ENVIRONMENT = {
    "PATH": PATH,
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # The kubelet speaks to the engine here, whatever a developer's shell says.
    "DOCKER_HOST": "unix:///var/run/docker.sock",
}


def tail(text: str) -> str:
    """The last lines of a program's output."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:])


class Stopped(Exception):
    """Nothing more is started: another part of the same work has failed or was interrupted."""


class Commands:
    """Programs that run to their end; `stop` ends those that still run, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._running: set[subprocess.Popen[str]] = set()

    def run(
        self,
        *arguments: str | Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        given: str = "",
    ) -> str:
        """Run one program.

        Args:
            *arguments: The program and its arguments.
            folder: To run in.
            environment: Variables in addition to `ENVIRONMENT`.
            given: Its standard input.

        Returns:
            What it wrote to standard output.

        Raises:
            EnvironmentFailure: It is not there, or its exit code is not 0.
            Stopped: `stop` was called.
        """
        process = self._start([str(each) for each in arguments], folder, environment or {})
        try:
            out, errors = process.communicate(given)
        except BaseException:
            _end(process)
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode:
            line = " ".join(str(each) for each in arguments[:4])
            raise EnvironmentFailure(
                f"`{line} …` failed with exit code {process.returncode}", tail(f"{out}\n{errors}")
            )
        return out

    def succeeds(self, *arguments: str | Path) -> bool:
        """Whether a program ends with exit code 0."""
        try:
            self.run(*arguments)
        except EnvironmentFailure:
            return False
        return True

    def _start(
        self, arguments: list[str], folder: Path | None, environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise Stopped
            try:
                process = subprocess.Popen(
                    arguments,
                    cwd=folder,
                    env={**ENVIRONMENT, "HOME": os.environ.get("HOME", "/root"), **environment},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # A group of its own, so that all of it can be ended.
                )
            except OSError as error:
                raise EnvironmentFailure(f"{arguments[0]} cannot be run: {error}") from error
            self._running.add(process)
            return process

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def together(commands: Commands, *jobs: Callable[[], object]) -> None:
    """Do independent things at once; the first failure, or an interrupt, ends them all."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            for job in as_completed([pool.submit(job) for job in jobs]):
                job.result()
        except BaseException:
            commands.stop()
            raise
