"""Checks of the environment: what it is made of, and whether it is up as it should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psutil

from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding, plural
from windsock.errors import ConfigurationError, WindsockError
from windsock.local.components import CONTROL_SOCKET, PORTS
from windsock.local.locking import FILE as LOCK_FILE
from windsock.local.orphans import carries_mark, marked
from windsock.local.ports import is_free, listener
from windsock.local.programs import RUN
from windsock.local.sockets import socket_path
from windsock.local.venv import VenvRecipe
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync.protocol import HALT_HINT
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from windsock.config import Settings
    from windsock.local.components import Layout
    from windsock.targets.base import Component

OTHERS = 0o077
"""The mode bits that let anybody but the owner in."""
SHOWN = 5


def built(settings: Settings, layout: Layout, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Airflow is installed as the lock and the project's requirements want it."""
    try:
        found = VenvRecipe.of(settings, layout.venvs, environment=variables).find()
    except ConfigurationError:
        return  # The checks of Python and of the lock say what is wrong.
    if found is None:
        yield Finding(OK, "not built yet for these requirements; the next `invoke up` does")
    else:
        yield Finding(OK, str(found.folder))


def paths(layout: Layout) -> Iterator[Finding]:
    """Whether the sockets' paths fit what the system allows."""
    run = layout.state / RUN
    folder = socket_path(run, CONTROL_SOCKET, make=False).parent
    why = "" if folder == run.resolve() else ": the state folder's own path is too long"
    yield Finding(OK, f"sockets in {folder}{why}")


def wanted_ports(settings: Settings, target: str) -> dict[str, int]:
    """What listens on this machine → the port that it should have."""
    if target == "local":
        return {"api": settings.local.port, **PORTS}
    return {"api": settings.cluster.port}


def ports(layout: Layout, wanted: Mapping[str, int]) -> Iterator[Finding]:
    """Whether the wanted ports are free, or used by this environment."""
    busy = []
    for name, port in wanted.items():
        if is_free(port):
            continue
        found = listener(port)
        if found is None or not carries_mark(found.pid, layout.state):
            busy.append(f"{port} for {name} ({found or 'by another user'})")
    if busy:
        yield Finding(
            WARNING,
            f"busy: {', '.join(busy)}",
            "Nothing to do: `invoke up` takes the next free port, and remembers it.",
        )
    else:
        yield Finding(OK, f"{', '.join(map(str, wanted.values()))}: free, or ours")


def secrets(layout: Layout) -> Iterator[Finding]:
    """Whether nobody else can read what is secret."""
    if not layout.secrets.exists():
        yield Finding(OK, "none yet; the first `invoke up` makes them")
        return
    # The descriptions of programs have the variables of Airflow's processes.
    folders = [layout.secrets, layout.state / RUN / "programs"]
    private = [path for each in folders if each.is_dir() for path in (each, *each.iterdir())]
    readable = [path for path in private if path.stat().st_mode & OTHERS]
    for path in readable:
        mode = "700" if path.is_dir() else "600"
        yield Finding(
            PROBLEM,
            f"others can read {path} (mode {path.stat().st_mode & 0o777:o})",
            f"`chmod {mode} {path}`. If others use this machine, get new secrets:\n"
            "`invoke down --volumes`, then `invoke up`.",
        )
    if not readable:
        yield Finding(OK, "for this user only")


def bringing_up(layout: Layout) -> Iterator[Finding]:
    """Whether an `invoke up` is under way, or was killed.

    Only the file is read: taking the lock, even for a moment, would refuse a real `invoke up`.
    """
    try:
        up = json.loads((layout.state / LOCK_FILE).read_text(encoding="utf-8"))
        pid = int(up["pid"])
    except (OSError, ValueError, TypeError, KeyError):
        yield Finding(OK, "no `invoke up` is under way")
        return
    if psutil.pid_exists(pid):
        yield Finding(OK, f"`{up.get('command')}` (pid {pid}) is bringing it up")
    else:
        yield Finding(
            WARNING,
            f"`{up.get('command')}` was killed while it brought the environment up",
            "Nothing is locked: `invoke up` goes on, `invoke down` ends what still runs.",
        )


def components(layout: Layout, status: Callable[[], list[Component]]) -> Iterator[Finding]:
    """Whether every component runs and is healthy; `status` asks the target."""
    found = status()
    if not found:
        yield _not_running(layout)
        return
    bad = [item for item in found if item.state in ("failed", "stopped") or item.healthy is False]
    for item in bad:
        state = "runs, but is not healthy" if item.state == "running" else item.state
        yield Finding(
            PROBLEM,
            f"{item.name} {state}: {item.detail}",
            f"`invoke logs {item.name}` shows why; `invoke restart {item.name}` starts it again.",
        )
    if not bad:
        yield Finding(OK, f"{', '.join(item.name for item in found)} run")


def _not_running(layout: Layout) -> Finding:
    processes = marked(layout.state)
    if processes:
        names = sorted({process.name() for process in processes})
        return Finding(
            PROBLEM,
            f"{plural(len(processes), 'process', 'processes')} without a supervisor: "
            f"{', '.join(names[:SHOWN])}",
            "`invoke down` ends them; `invoke up` does so too, and starts the environment.",
        )
    if (layout.state / ENVIRONMENT_FILE).exists():
        return Finding(
            WARNING, "it was up, but nothing runs any more", "`invoke up` starts it again."
        )
    return Finding(OK, "not up; `invoke up` starts it")


def sync(layout: Layout) -> Iterator[Finding]:
    """Whether Airflow has the files of the DAG folder."""
    if not (layout.state / ENVIRONMENT_FILE).exists():
        return
    try:
        state = ControlClient(Environment.load(layout.state).control_socket).status(timeout=1)
    except WindsockError as error:
        yield Finding(WARNING, error.message, "`invoke up` starts what is missing.")
        return
    if state["halted"]:
        yield Finding(PROBLEM, state["summary"], HALT_HINT)
    elif not state["connected"]:
        yield Finding(PROBLEM, state["summary"], "`invoke logs sync` shows why.")
    else:
        level = OK if state["settled"] else WARNING
        yield Finding(level, state["summary"].removeprefix("sync: "))
    for path, reason in list(state["problems"].items())[:SHOWN]:
        yield Finding(WARNING, f"{path} is not synced: {reason}")
    if state["errors"]:
        yield Finding(
            WARNING,
            f"DAG files that do not import: {', '.join(sorted(state['errors'])[:SHOWN])}",
            "`invoke dags.errors` shows their tracebacks.",
        )
