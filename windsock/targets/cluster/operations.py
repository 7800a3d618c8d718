"""What can be done with an environment that is up in a cluster."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from windsock.airflow.health import GLANCE_SECONDS
from windsock.cluster.access import logs, shell
from windsock.cluster.rollout import follow as rollout
from windsock.errors import ConfigurationError, WindsockError
from windsock.local.logs import follow_logs
from windsock.model import Environment
from windsock.targets.base import Component
from windsock.targets.cluster import processes
from windsock.targets.this_machine import sync_says

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.targets.cluster.parts import Parts
    from windsock.terminal.console import Console

WORKLOADS = ("postgres", "api-server", "scheduler", "dag-processor", "triggerer")


class ClusterOperations:
    """What `invoke status`, `logs`, `restart` and `shell` do with an environment in a cluster."""

    component_names: Sequence[str] = (*WORKLOADS, "worker", *processes.NAMES)

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def status(self, *, health: bool = True) -> list[Component]:
        """The state of every component."""
        parts = self.parts
        healthy: dict[str, bool] = {}
        if health:
            with contextlib.suppress(WindsockError):
                environment = Environment.load(parts.layout.state)
                healthy = processes.health(parts, environment, seconds=GLANCE_SECONDS)
                healthy["sync"] = sync_says(environment, "healthy")
        found = [
            Component(name=name, state=state, detail=detail, healthy=healthy.get(name))
            for name, state, detail in rollout.states(parts.cluster)
        ]
        return found and found + self._processes(healthy)

    def _processes(self, health: dict[str, bool]) -> list[Component]:
        supervisor = self.parts.supervisor
        if not supervisor.alive():
            detail = "on this machine; `invoke up` starts it"
            return [Component(name=n, state="stopped", detail=detail) for n in processes.NAMES]
        return [
            Component(
                name=name,
                state="running" if state.running else "failed",
                detail=state.description or "on this machine",
                healthy=health.get(name),
            )
            for name, state in sorted(supervisor.states().items())
        ]

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        """Log lines of one component, or of all pods with their names before them."""
        if component in processes.NAMES:
            path = {component: self.parts.layout.state / "logs" / f"{component}.log"}
            return follow_logs(path, follow=follow, lines=lines, prefixed=False)
        return logs.stream(self.parts.cluster, component, follow=follow, lines=lines)

    def restart(self, console: Console, component: str | None) -> None:
        """Restart one component or all of them, and wait until it is healthy."""
        parts = self.parts
        names = [component] if component else [*WORKLOADS, *processes.NAMES]
        if "worker" in names:
            raise ConfigurationError(
                "workers are not restarted: each runs one task", "Clear the task in the UI instead."
            )
        workloads = [name for name in names if name in WORKLOADS]
        local = [name for name in names if name in processes.NAMES]
        with console.step(f"restarted {', '.join(names)}") as step:
            if workloads:
                timeout = parts.settings.up_timeout
                rollout.restart(parts.cluster, workloads, progress=step.progress, timeout=timeout)
            if local:
                parts.supervisor.restart(*local)
            environment = Environment.load(parts.layout.state)
            processes.wait_healthy(parts, environment, step.progress)

    def shell(self, command: Sequence[str]) -> int:
        """Run a command, or an interactive shell, in a pod of Airflow; its exit code."""
        command = list(command) or ["bash"]
        interactive = sys.stdin.isatty() and sys.stdout.isatty()
        return shell.run(self.parts.cluster, "dag-processor", command, interactive=interactive)
