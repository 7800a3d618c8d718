"""Find the processes of an environment by a mark that all inherit, and end what was left behind.

Every process that windsock starts for an environment has `WINDSOCK_ENVIRONMENT=<state folder>` in
its variables, and hands it on to its own children. So nothing else is ever ended, whatever its
name, its port or a pid in some old file may suggest.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MARK = "WINDSOCK_ENVIRONMENT"
POLL_SECONDS = 0.02


def mark(state: Path) -> dict[str, str]:
    """The variables that make a process, and its children, known as this environment's.

    Includes what keeps the mark readable: setproctitle, which Airflow's processes use, would
    otherwise write the title over the environment (its documentation, "SPT_NOENV").
    """
    return {MARK: os.path.realpath(state), "SPT_NOENV": "1"}


def carries_mark(pid: int, state: Path) -> bool:
    """Whether a process belongs to the environment of `state`."""
    try:
        return _is_marked(psutil.Process(pid), os.path.realpath(state))
    except psutil.Error:
        return False


def marked(state: Path) -> list[psutil.Process]:
    """All processes of an environment that this user may end, without ourselves and our parents."""
    value = os.path.realpath(state)
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {
        process.pid: process for process in psutil.process_iter() if _is_marked(process, value)
    }
    for process in list(found.values()):
        with suppress(psutil.Error):
            # A child may have written over its environment.
            found.update((child.pid, child) for child in process.children(recursive=True))
    return [process for pid, process in sorted(found.items()) if pid not in spared]


def reap(state: Path, *, patience: float = 3.0) -> None:
    """End the processes that a killed supervisor left behind, and no others.

    Each process gets a signal to end, and is killed after `patience` seconds.
    """
    # Twice: a process may have been starting another one while we looked, and while one turns into
    # another program (execve) the kernel shows no variables of it.
    for wait in (patience, 1.0):
        _end(marked(state), wait)


def _end(processes: Sequence[psutil.Process], patience: float) -> None:
    for process in processes:
        with suppress(psutil.Error):
            # For PostgreSQL, TERM means "when the last client has gone", INT means "now, cleanly".
            polite = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
            process.send_signal(polite)
    for process in wait_gone(processes, seconds=patience):
        with suppress(psutil.Error):
            process.kill()
    wait_gone(processes, seconds=patience)


def wait_gone(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that have not.

    A process that nobody has collected yet (a zombie) has ended: in a container the first process
    may take seconds for that, or never do it, and psutil's own `wait_procs` would wait for it.
    """
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while True:
        alive = [process for process in alive if not _has_ended(process)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(POLL_SECONDS)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _is_marked(process: psutil.Process, value: str) -> bool:
    try:
        if process.environ().get(MARK) == value:
            return True
        # PostgreSQL's backends write their title over the environment. When the postmaster is
        # killed they may outlive it for a while; all of them stand in the data folder.
        return process.name() == "postgres" and process.cwd().startswith(value + os.sep)
    except (psutil.Error, OSError):
        return False  # gone, or not ours to look into
