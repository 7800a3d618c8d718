"""The background process of an environment: it syncs saves, and answers on the control socket.

Run by the target's supervisor as `python -m windsock.sync_process.service`, so that saves go on
being synced when no terminal is attached. Its settings are a JSON object in the variable
WINDSOCK_SERVICE; it holds no secrets.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.airflow.polling import Poll, Polling
from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError, explained
from windsock.model import Environment
from windsock.sync import events
from windsock.sync.protocol import StoreBusy
from windsock.sync_process.board import Board
from windsock.sync_process.plugins import LOADED, PluginRestarts, restart_here, restart_in_pods
from windsock.sync_process.server import ControlServer
from windsock.sync_process.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.airflow.api import Airflow
    from windsock.sync_process.control import Message

VARIABLE = "WINDSOCK_SERVICE"

SETTINGS_LOOK = 1.0
"""Seconds between two looks at airflow_settings.yaml: a stat each."""

STOP, TAKE_OVER = "stop", "take over"
"""What may be told to a process that waits while somebody else syncs."""


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """The cluster in which the agent runs, in the pod of the dag-processor.

    Attributes:
        context: A kube context.
        namespace: Of the environment.
        kubeconfig: A file; empty means what kubectl would use.
        client: Who we are, for others who would sync; see `windsock.cluster.api.lease.identity`.
    """

    context: str
    namespace: str
    kubeconfig: str = ""
    client: str = ""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the background process needs; every path is absolute.

    Attributes:
        dags_folder: The folder to sync.
        store: The snapshot store.
        processor_socket: Where the dag-processor listens.
        control_socket: Where this process listens.
        state_folder: Of the environment.
        airflow_settings: Connections, variables and pools.
        quiet: Seconds; see `windsock.config.SyncSettings`, as for the following.
        longest: Seconds.
        keep_snapshots: A number.
        maximum_bytes: Bytes.
        pod: Where the agent runs; None means on this machine.
        further: Name → folder, of what is synced with the DAG folder.
        secrets: The folder of the environment's secrets.
        up_timeout: Seconds until a component that does not become healthy is a failure.
    """

    dags_folder: str
    store: str
    processor_socket: str
    control_socket: str
    state_folder: str
    airflow_settings: str
    quiet: float
    longest: float
    keep_snapshots: int
    maximum_bytes: int
    pod: PodSettings | None = None
    further: dict[str, str] = field(default_factory=dict)
    secrets: str = ""
    up_timeout: float = 180.0

    def as_variable(self) -> dict[str, str]:
        """The environment variable that hands it to the process."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_variable(cls, environment: Mapping[str, str]) -> ServiceSettings:
        """Read it back."""
        values = json.loads(environment[VARIABLE])
        pod = values.pop("pod")
        return cls(**values, pod=None if pod is None else PodSettings(**pod))


class SettingsFile:
    """Imports airflow_settings.yaml whenever it changes.

    Args:
        settings: Of the service.
        publish: Gets `{"type": "settings", ...}` events.
    """

    def __init__(self, settings: ServiceSettings, publish: Callable[[Message], None]) -> None:
        self._path = Path(settings.airflow_settings)
        self._state_folder = Path(settings.state_folder)
        self._publish = publish
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def look(self) -> None:
        """Import it if it changed since the last look. `invoke up` did the first import."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        from windsock.airflow.settings_import import import_settings  # noqa: PLC0415 - only on a change

        try:
            environment = Environment.load(self._state_folder)
            changes = import_settings(self._path, environment, state_folder=self._state_folder)
        except Exception as error:  # noqa: BLE001 - the next save of the file may do
            told = explained(error, doing=f"import {self._path.name}")
            self._publish({"type": "settings", "error": told.message, "hint": told.hint})
        else:
            if changes is not None:
                self._publish({"type": "settings", "summary": changes.summary()})


class Service:
    """The session, the board and the control server, tied together."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        # Reentrant, so that a signal handler may put something into it.
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server = ControlServer(
            Path(settings.control_socket),
            {
                "status": self._on_status,
                "barrier": self._on_barrier,
                "allow-empty": self._on_allow_empty,
                "synced": self._on_synced,
                "take-over": self._on_take_over,
            },
        )
        self._board = Board(self._publish)
        self._plugins = PluginRestarts(
            self._restart, loaded=Path(settings.state_folder) / LOADED, publish=self._publish
        )
        self._polling = Polling(
            Poll(Path(settings.dags_folder)), client=self._airflow, tell=self._take_polled
        )
        self._turn = self._new_turn(take_over=False)
        self._settings_file = SettingsFile(settings, self._publish)

    def run(self) -> None:
        """Sync until `stop`; while somebody else syncs, wait until it is to be taken over."""
        self._server.start()
        threading.Thread(target=self._look_at_settings, daemon=True).start()
        threading.Thread(target=self._plugins.run, name="plugins", daemon=True).start()
        try:
            while not self._stop.is_set():
                try:
                    self._turn.run()
                except StoreBusy as busy:
                    self._board.take(events.Held(reason=busy.message, hint=busy.hint))
                    if self._orders.get() == TAKE_OVER:
                        self._turn = self._new_turn(take_over=True)
        finally:
            self._polling.stop()
            self._server.close()

    def stop(self) -> None:
        """End `run`; safe in a signal handler."""
        self._stop.set()
        self._orders.put(STOP)
        self._turn.stop()

    def _new_turn(self, *, take_over: bool) -> Turn:
        return Turn(self._settings, self._take, take_over=take_over)

    def _take(self, event: events.Event) -> None:
        """Take an event of the session in, and what follows from it."""
        self._board.take(event)
        self._plugins.take(event)
        match event:
            case events.ProcessorMessage(message=message):
                if self._polling.hear(message):
                    self._board.take(events.Note(message=self._polling.note))
            case events.Sent(tree=tree, difference=difference):
                self._polling.turn(tree, difference.added + difference.modified)
            case events.CaughtUp(tree=tree):
                self._polling.turn(tree)

    def _take_polled(self, message: Message) -> None:
        """Take in what is known of a dag-processor that does not tell."""
        self._board.take(events.ProcessorMessage(message=message))

    def _airflow(self) -> Airflow:
        from windsock.airflow.api import Airflow  # noqa: PLC0415 - only beside a stock one

        return Airflow.of(Environment.load(Path(self._settings.state_folder)))

    def _restart(self) -> None:
        """Restart what reads plugins when it starts."""
        settings = self._settings
        if settings.pod is not None:
            restart_in_pods(settings.pod, timeout=settings.up_timeout)
            return
        restart_here(
            Path(settings.state_folder),
            secrets=Path(settings.secrets),
            timeout=settings.up_timeout,
        )

    def _publish(self, message: Message) -> None:
        print(json.dumps(message), flush=True)  # noqa: T201 - the log of this process
        self._server.publish(message)

    def _look_at_settings(self) -> None:
        while not self._stop.wait(SETTINGS_LOOK):
            self._settings_file.look()

    # --- requests -----------------------------------------------------------------------------

    def _on_status(self, _: Message) -> Message:
        state = self._board.state()
        failure = self._plugins.failure
        if failure is not None:
            state["troubles"].append(failure)
        if note := self._polling.note:
            state["troubles"].append({"type": "note", "message": note})
        return state

    def _on_barrier(self, request: Message) -> Message:
        """Wait until Airflow has parsed exactly what is on disk now."""
        timeout = float(request.get("timeout", 60.0))
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if self._board.held:
                raise EnvironmentFailure(*self._board.held)
            if self._board.halted:
                raise EnvironmentFailure(
                    f"the sync is halted: {self._board.halted}",
                    "Put the files back, or run `invoke sync --allow-empty` if it is meant.",
                )
            snapshot = self._turn.session.request_scan(timeout=left)
            if not self._plugins.wait(timeout=deadline - time.monotonic()):
                break
            self._plugins.check()
            if self._board.wait_settled(snapshot, timeout=deadline - time.monotonic()):
                state = self._board.state()
                return {"snapshot": snapshot, "errors": state["errors"], "dags": state["dags"]}
        raise self._too_late(timeout)

    def _too_late(self, timeout: float) -> WindsockError:
        state = self._board.state()
        if not self._plugins.wait(timeout=0):
            waiting = "plugins changed, and Airflow is being restarted"
        elif state["awaited"]:
            waiting = f"still parsing {', '.join(state['awaited'][:5])}"
        else:
            waiting = "the dag-processor has not told of it"
        return DeadlineExceeded(
            f"Airflow has not parsed the DAG folder within {timeout:.0f} s: {waiting}",
            "`invoke status` and `invoke logs dag-processor` show what it does.",
        )

    def _on_synced(self, request: Message) -> Message:
        """Wait until the store holds what is on disk now, whether Airflow runs or not."""
        timeout = float(request.get("timeout", 60.0))
        deadline = time.monotonic() + timeout
        snapshot = self._turn.session.request_scan(timeout=timeout)
        if not self._plugins.wait(timeout=deadline - time.monotonic()):
            raise self._too_late(timeout)
        return {"snapshot": snapshot}

    def _on_allow_empty(self, _: Message) -> Message:
        self._turn.session.allow_empty()
        return {"allowed": True}

    def _on_take_over(self, request: Message) -> Message:
        """Take the sync over from whoever has it, and wait until it is ours."""
        reason = self._board.take_over()
        if not reason:
            return {"from": ""}
        self._orders.put(TAKE_OVER)
        if not self._board.wait_connected(timeout=float(request.get("timeout", 60.0))):
            raise EnvironmentFailure(
                self._board.held[0] if self._board.held else "the sync is not connected yet",
                "It is tried again; `invoke status` shows how far it is.",
            )
        return {"from": reason}


def main() -> None:
    """Run the service until it is told to stop."""
    service = Service(ServiceSettings.from_variable(os.environ))

    def end(*_: Any) -> None:
        service.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    service.run()


if __name__ == "__main__":
    main()
