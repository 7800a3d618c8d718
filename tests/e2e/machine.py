"""The processes of this machine, as psutil finds them and not as windsock does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

from tests.e2e.project import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.project import Project


def processes_of(project: Project) -> list[psutil.Process]:
    """Every process of a project's state folder, without this one and its parents.

    The folder is in its variables, its command line or its working folder: a process may have lost
    one or two of them.
    """
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and _mentions(process, str(project.state))
    ]


def _mentions(process: psutil.Process, state: str) -> bool:
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        where = [*process.cmdline(), process.cwd()]
        with suppress(psutil.Error, OSError):
            where += process.environ().values()
        return any(text == state or f"{state}/" in text for text in where)
    return False


def command_lines(project: Project) -> list[str]:
    """The command line of each process of a project."""
    lines = []
    for process in processes_of(project):
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return lines


def component_pid(project: Project, name: str) -> int:
    """The process of one component, from `invoke status --json` ("pid 4711, uptime …")."""
    status = json.loads(project.invoke("status", "--json").stdout)
    [detail] = [item["detail"] for item in status["components"] if item["name"] == name]
    return int(detail.split()[1].rstrip(","))


def run_tool(name: str, *arguments: str) -> None:
    """Run a program of this machine; the test fails if it is missing or fails."""
    program = shutil.which(name)
    assert program is not None, f"{name} is not installed"
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"


def kill_9(pid: int) -> None:
    """Kill one process, and nothing of what it started."""
    os.kill(pid, signal.SIGKILL)


def assert_nothing_runs(project: Project) -> None:
    """Soon no process of the project runs."""

    def gone() -> bool:
        return not processes_of(project)

    try:
        eventually(gone, "all processes have ended", timeout=15)
    except AssertionError:
        left = "\n".join(line[:120] for line in command_lines(project))
        raise AssertionError(f"processes still run:\n{left}") from None


def free_port() -> int:
    """A loopback port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def busy_port() -> Iterator[int]:
    """A loopback port that somebody else (we) listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])
