"""Airflow's plugins: read once, when a component starts; so a change restarts what has read them.

The sync process does it, so that a save is enough also where no terminal is attached.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from windsock.airflow.health import (
    AIRFLOW,
    airflow_health,
    is_healthy,
    loopback_client,
    wait_until_healthy,
)
from windsock.airflow.settings import PLUGINS
from windsock.errors import WindsockError
from windsock.local.processes import ENDED, Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync import events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from windsock.service import PodSettings

MARK = "plugins.changed"
"""A file of the state folder: plugins have changed, and what has read them is not restarted yet."""


def restart_here(state: Path, *, secrets: Path, timeout: float) -> None:
    """Restart Airflow's components on this machine, if they run, and wait until they are healthy.

    Args:
        state: The state folder.
        secrets: The folder of its secrets.
        timeout: Seconds.

    Raises:
        WindsockError: One did not become healthy.
    """
    password = Secrets.ensure(secrets).supervisor_password
    supervisor = Supervisor(state, password=password, inherited={})
    states = supervisor.states()
    if all(name not in states or states[name].state in ENDED for name in AIRFLOW):
        return  # They are yet to start, and read what is there then.
    supervisor.restart(*AIRFLOW)
    if not (state / ENVIRONMENT_FILE).exists():
        return  # An `up` is on its way, and waits for them itself.
    url = Environment.load(state).url
    with loopback_client() as client:

        def unhealthy() -> list[str]:
            supervisor.check(*AIRFLOW)
            said, now = airflow_health(client, url), supervisor.states()
            return [
                name
                for name in AIRFLOW
                if not is_healthy(said.get(name) or {}, name, since=now[name].since)
            ]

        wait_until_healthy(
            unhealthy,
            seconds=timeout,
            progress=lambda _: None,
            hint=lambda name: f"The end of its log:\n{supervisor.tail(name)}",
        )


def restart_in_pods(pod: PodSettings, *, timeout: float) -> None:
    """Give Airflow's components in a namespace new pods, and wait until they are ready.

    Args:
        pod: Names the cluster and the namespace.
        timeout: Seconds.

    Raises:
        WindsockError: One did not become ready.
    """
    from windsock.cluster import rollout  # noqa: PLC0415 - heavy
    from windsock.cluster.client import Cluster  # noqa: PLC0415 - heavy

    cluster = Cluster.connect(
        context=pod.context, namespace=pod.namespace, kubeconfig=pod.kubeconfig or None
    )
    rollout.restart(cluster, AIRFLOW, progress=lambda _: None, timeout=timeout)


class PluginRestarts:
    """Restarts what has read the plugins, once for all changes that came until then.

    Args:
        restart: Does it, and returns when all is well again.
        mark: A file that outlives this process, while a restart is due.
        publish: Gets `restarting`, `restarted` and `restart-failed` events.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        restart: Callable[[], None],
        *,
        mark: Path,
        publish: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restart = restart
        self._mark = mark
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._due = self._busy = False
        self._left_over = mark.exists()

    def take(self, event: events.Event) -> None:
        """Look at an event of the session; never blocks."""
        match event:
            case events.Sent(difference=difference):
                if any(path.startswith(f"{PLUGINS}/") for path in difference.paths):
                    self._mark.touch()
                    self._call()
            case events.CaughtUp():
                if self._left_over:  # By a process before this one.
                    self._left_over = False
                    self._call()

    def _call(self) -> None:
        with self._changed:
            self._due = True
            self._changed.notify_all()

    def run(self) -> None:
        """Restart whenever it is due; for a daemon thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due)
                self._due, self._busy = False, True
            try:
                self._do()
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def wait(self, *, timeout: float) -> bool:
        """Wait until no restart is due or under way.

        Args:
            timeout: Seconds.

        Returns:
            Whether it is so.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not (self._due or self._busy), timeout=timeout)

    def _do(self) -> None:
        started = self._clock()
        self._publish({"type": "restarting", "components": list(AIRFLOW)})
        self._mark.unlink(missing_ok=True)
        try:
            self._restart()
        except WindsockError as error:
            self._mark.touch()
            self._publish({"type": "restart-failed", "error": error.message, "hint": error.hint})
        else:
            seconds = round(self._clock() - started, 3)
            self._publish({"type": "restarted", "seconds": seconds})
