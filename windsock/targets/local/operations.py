"""What can be done with an environment that is up on this machine."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from windsock.airflow.health import AIRFLOW, GLANCE_SECONDS
from windsock.errors import ConfigurationError, WindsockError
from windsock.local.components import ensure_runtime, inherited_variables
from windsock.local.logs import follow_logs
from windsock.model import Environment
from windsock.targets.base import Component
from windsock.targets.local.parts import ALL
from windsock.targets.this_machine import sync_says

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.local.processes import ProcessState
    from windsock.targets.local.parts import LocalParts
    from windsock.terminal.console import Console

STATE_WORDS = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "failed",
    "FATAL": "failed",
    "EXITED": "failed",
}


class LocalOperations:
    """Looks into an environment on this machine.

    Args:
        parts: Of the environment.
    """

    component_names: Sequence[str] = ALL

    def __init__(self, parts: LocalParts) -> None:
        self._parts = parts

    def status(self, *, health: bool = True) -> list[Component]:
        """The state of every component; none if nothing is up."""
        parts = self._parts
        if not parts.has_secrets or not parts.supervisor.alive():
            return []
        healthy: dict[str, bool] = {}
        if health:
            with contextlib.suppress(WindsockError):
                environment = Environment.load(parts.layout.state)
                healthy = parts.health(environment, seconds=GLANCE_SECONDS)
                healthy["sync"] = sync_says(environment, "healthy")
        states = parts.supervisor.states()
        return [
            _component(states[name], healthy=healthy.get(name)) for name in ALL if name in states
        ]

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        """Log lines of one component, or of all with their names before them."""
        names = [component] if component else ALL
        files = {name: self._parts.layout.log(name) for name in names}
        return follow_logs(files, follow=follow, lines=lines, prefixed=component is None)

    def restart(self, console: Console, component: str | None) -> None:
        """Restart one component or all of them, and wait until it is healthy."""
        parts = self._parts
        names = [component] if component else ALL
        # With the lock: who follows the saves waits for the end, however long it takes.
        with parts.locked(), console.step(f"restarted {', '.join(names)}") as step:
            parts.supervisor.stop(*names)
            if "postgres" in names:
                parts.supervisor.start("postgres")
                parts.wait_database()
            parts.supervisor.start(*names)
            environment = Environment.load(parts.layout.state)
            waited_for = [name for name in names if name in (*AIRFLOW, "sync")]
            parts.wait_healthy(waited_for, environment, step.progress)

    def shell(self, command: Sequence[str]) -> int:
        """Run a command (or an interactive shell) in Airflow's environment; its exit code."""
        parts = self._parts
        venv = parts.ready_venv()
        ensure_runtime(parts.layout)
        variables = {
            **inherited_variables(parts.variables, scripts=venv.scripts),
            **parts.airflow_variables,
            "VIRTUAL_ENV": str(venv.folder),
            "WINDSOCK_SHELL": "1",
        }
        wanted = list(command) or [parts.variables.get("SHELL") or "/bin/sh"]
        executable = shutil.which(wanted[0], path=variables["PATH"])
        if executable is None:
            raise ConfigurationError(
                f"there is no command {wanted[0]!r} in Airflow's environment",
                "Add its package to your requirements: `invoke up` installs it.",
            )
        return subprocess.call([executable, *wanted[1:]], env=variables)


def _component(state: ProcessState, *, healthy: bool | None) -> Component:
    word = STATE_WORDS.get(state.state, "stopped")
    if word == "starting" and healthy:
        word = "running"  # To the supervisor it starts until it has lived for a while.
    detail = state.description or (f"pid {state.pid}" if state.pid else "")
    return Component(name=state.name, state=word, detail=detail, healthy=healthy)
