"""Restarts Airflow's components when plugins change: a component reads them once, when it starts.

The sync process does this, so that it happens also while no terminal is attached. A file has the
digest of the plugins that were loaded last. So a save during a cut or a crash is noticed when the
folder and the store are equal again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.airflow.health import (
    AIRFLOW,
    ASK_SECONDS,
    airflow_health,
    is_healthy,
    loopback_client,
    wait_until_healthy,
)
from windsock.airflow.settings import PLUGINS
from windsock.errors import EnvironmentFailure, explained
from windsock.events import Event, Restarted, RestartFailed, Restarting
from windsock.local.processes import ENDED, Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE, Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from windsock.sync.scan import Difference, Entry, Tree
    from windsock.sync_process.settings import ServiceSettings

LOADED = "plugins.loaded"
"""A file of the state folder: the digest of the plugins that Airflow's components have read."""

NO_PLUGINS = "none"
IN_BETWEEN = "restarting"
"""Instead of a digest: components may have read different plugins."""


def digest_of(entries: Mapping[str, Entry]) -> str:
    """The digest of all plugins in a snapshot."""
    rows = sorted((path, e.row) for path, e in entries.items() if path.startswith(f"{PLUGINS}/"))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest() if rows else NO_PLUGINS


def restart_airflow(settings: ServiceSettings) -> None:
    """Restart Airflow's components, and wait until they are healthy.

    Raises:
        WindsockError: One did not become healthy.
    """
    if settings.pod is not None:
        from windsock.cluster.rollout import follow as rollout  # noqa: PLC0415 - heavy

        cluster = settings.pod.connect()
        rollout.restart(cluster, AIRFLOW, progress=lambda _: None, timeout=settings.up_timeout)
        return
    state = Path(settings.state_folder)
    password = Secrets.ensure(Path(settings.secrets)).supervisor_password
    supervisor = Supervisor(state, password=password, inherited={})
    with loopback_client() as client:
        restart_processes(state, supervisor, client, timeout=settings.up_timeout)


def restart_processes(
    state: Path, supervisor: Supervisor, client: httpx.Client, *, timeout: float
) -> None:
    """Restart the components on this machine, if they run; raises as `restart_airflow` does."""
    states = supervisor.states()
    if all(name not in states or states[name].state in ENDED for name in AIRFLOW):
        return  # They have not started yet, and will read the new plugins.
    supervisor.restart(*AIRFLOW)
    if not (state / ENVIRONMENT_FILE).exists():
        return  # An `up` is under way, and waits for them.
    url = Environment.load(state).url

    def unhealthy() -> list[str]:
        supervisor.check(*AIRFLOW)
        health = airflow_health(client, url, seconds=ASK_SECONDS)
        now = supervisor.states()
        return [
            name
            for name in AIRFLOW
            if not is_healthy(health.get(name) or {}, name, since=now[name].since)
        ]

    wait_until_healthy(
        unhealthy,
        seconds=timeout,
        progress=lambda _: None,
        hint=lambda name: f"The end of its log:\n{supervisor.tail(name)}",
    )


class PluginRestarts:
    """Restarts Airflow's components once for all changes that came until then.

    Args:
        restart: Restarts them, and returns when all are healthy again.
        loaded: The file with the digest of the loaded plugins; it outlives this process.
        publish: Gets `Restarting`, `Restarted` and `RestartFailed`.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        restart: Callable[[], None],
        *,
        loaded: Path,
        publish: Callable[[Event], None],
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
        self.failure: RestartFailed | None = None
        """The event of the last restart, if it failed."""

    def start_empty(self) -> None:
        """The store is empty: no plugins are loaded, unless the file has a digest."""
        with self._changed:
            if not self._loaded:
                self._record(NO_PLUGINS)

    def on_snapshot(self, tree: Tree, changes: Difference) -> None:
        """Restart if the store's plugins are neither loaded nor about to be.

        Args:
            tree: What the store holds.
            changes: Its last changes; empty if folder and store are equal again.
        """
        if changes and not any(path.startswith(f"{PLUGINS}/") for path in changes.paths):
            return
        found = digest_of(tree.entries)
        with self._changed:
            if not self._loaded and not changes:
                # Others have filled the store: the components there have read its plugins.
                self._record(found)
                return
            coming = self._wanted if self._due or self._busy else self._loaded
            if found != coming:
                self._wanted, self._due = found, True
                self._changed.notify_all()

    def run(self) -> None:
        """Restart whenever a restart is due; for a daemon thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due)
                self._due, self._busy = False, True
                wanted = self._wanted
                self._record(IN_BETWEEN)
            failure = self._do()
            with self._changed:
                if failure is None:
                    self._record(wanted)
                self._busy, self.failure = False, failure
                self._changed.notify_all()

    def wait(self, *, timeout: float) -> bool:
        """Wait up to `timeout` seconds until no restart is due or under way.

        Returns:
            Whether none is.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not (self._due or self._busy), timeout=timeout)

    def check(self) -> None:
        """Make sure that the components have read the current plugins.

        Raises:
            EnvironmentFailure: The last restart failed; the message says why.
        """
        failure = self.failure
        if failure is not None:
            raise EnvironmentFailure(
                f"plugins changed, but the restart failed: {failure.message}", failure.hint
            )

    def _do(self) -> RestartFailed | None:
        started = self._clock()
        self._publish(Restarting(components=tuple(AIRFLOW)))
        try:
            self._restart()
        except Exception as error:  # noqa: BLE001 - the next change must find this thread
            cause = explained(error, doing="restart what has read the plugins")
            again = "A save of a plugin tries it again, and so does `invoke restart`."
            failure = RestartFailed(message=cause.message, hint=f"{cause.hint}\n{again}".lstrip())
            self._publish(failure)
            return failure
        self._publish(Restarted(seconds=round(self._clock() - started, 3)))
        return None

    def _record(self, loaded: str) -> None:
        self._loaded = loaded
        with contextlib.suppress(OSError):  # Without the file there is one restart too many.
            self._file.write_text(loaded, encoding="utf-8")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() or IN_BETWEEN  # The disk was full.
    except OSError:
        return ""
