"""Airflow's plugins: read once, when a component starts; so a change restarts what has read them.

The sync process does it, so that a save is enough also where no terminal is attached. What was
loaded last is kept in a file, by content: a save that nobody could tell of, as it came during a cut
or a crash, is found when folder and store are known to be equal again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from windsock.errors import EnvironmentFailure, explained
from windsock.local.processes import ENDED, Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync import events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from windsock.sync.tree import Entry
    from windsock.sync_process.service import PodSettings

LOADED = "plugins.loaded"
"""A file of the state folder: the digest of the plugins that Airflow's components have read."""

NO_PLUGINS = "none"
IN_BETWEEN = "restarting"
"""Instead of a digest: some components may have read the plugins of before, others newer ones."""


def digest_of(entries: Mapping[str, Entry]) -> str:
    """The content of all plugins.

    Args:
        entries: All that a snapshot holds.
    """
    rows = sorted((path, e.row) for path, e in entries.items() if path.startswith(f"{PLUGINS}/"))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest() if rows else NO_PLUGINS


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
    from windsock.cluster.api.client import Cluster  # noqa: PLC0415 - heavy
    from windsock.cluster.rollout import follow as rollout  # noqa: PLC0415 - heavy

    cluster = Cluster.connect(
        context=pod.context, namespace=pod.namespace, kubeconfig=pod.kubeconfig or None
    )
    rollout.restart(cluster, AIRFLOW, progress=lambda _: None, timeout=timeout)


class PluginRestarts:
    """Restarts what has read the plugins, once for all changes that came until then.

    Args:
        restart: Does it, and returns when all is well again.
        loaded: The file that keeps what was loaded; it outlives this process.
        publish: Gets `restarting`, `restarted` and `restart-failed` events.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        restart: Callable[[], None],
        *,
        loaded: Path,
        publish: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restart = restart
        self._file = loaded
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._due = self._busy = False
        self._loaded = _read(loaded)
        self._wanted = ""
        self._failure: dict[str, Any] | None = None

    def take(self, event: events.Event) -> None:
        """Look at an event of the session; never blocks for long."""
        match event:
            case events.Connected(tree=None):
                self._start_with_none()
            case events.Sent(difference=difference, entries=entries):
                if any(path.startswith(f"{PLUGINS}/") for path in difference.paths):
                    self._call(digest_of(entries))
            case events.CaughtUp(entries=entries):
                self._compare(digest_of(entries))

    def _start_with_none(self) -> None:
        """The store is empty: what comes to it is not loaded yet, unless a file says otherwise."""
        with self._changed:
            if not self._loaded:
                self._keep(NO_PLUGINS)

    def _compare(self, found: str) -> None:
        """Restart if what is there is neither loaded nor about to be."""
        with self._changed:
            if not self._loaded:
                # Nothing is known of a store that others have filled: who runs there has read it.
                self._keep(found)
                return
            on_its_way = (self._due or self._busy) and self._wanted == found
            if found != self._loaded and not on_its_way:
                self._call(found)

    def _call(self, wanted: str) -> None:
        with self._changed:
            self._wanted = wanted
            self._due = True
            self._changed.notify_all()

    def run(self) -> None:
        """Restart whenever it is due; for a daemon thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due)
                self._due, self._busy = False, True
                wanted = self._wanted
                self._keep(IN_BETWEEN)
            failure = self._do()
            with self._changed:
                if failure is None:
                    self._keep(wanted)
                self._busy, self._failure = False, failure
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

    @property
    def failure(self) -> dict[str, Any] | None:
        """The last restart's `restart-failed` event, if it failed."""
        with self._changed:
            return self._failure

    def check(self) -> None:
        """Make sure that what runs has read the plugins as they are.

        Raises:
            EnvironmentFailure: The last restart failed; says why.
        """
        failure = self.failure
        if failure is not None:
            raise EnvironmentFailure(
                f"plugins changed, but the restart failed: {failure['error']}", failure["hint"]
            )

    def _do(self) -> dict[str, Any] | None:
        """Restart, and tell; returns what was told of a failure."""
        started = self._clock()
        self._publish({"type": "restarting", "components": list(AIRFLOW)})
        try:
            self._restart()
        except Exception as error:  # noqa: BLE001 - the next change must find this thread
            told = explained(error, doing="restart what has read the plugins")
            again = "A save of a plugin tries it again, and so does `invoke restart`."
            hint = f"{told.hint}\n{again}".lstrip()
            failure = {"type": "restart-failed", "error": told.message, "hint": hint}
            self._publish(failure)
            return failure
        self._publish({"type": "restarted", "seconds": round(self._clock() - started, 3)})
        return None

    def _keep(self, loaded: str) -> None:
        """Remember what is loaded; the lock is held, or nothing runs yet."""
        self._loaded = loaded
        with contextlib.suppress(OSError):  # A restart too many is all that it costs.
            self._file.write_text(loaded, encoding="utf-8")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() or IN_BETWEEN  # The disk was full.
    except OSError:
        return ""
