"""The background process of an environment: it syncs saves, and answers on the control socket.

Run by the target's supervisor as `python -m windsock.service`, so that saves go on being synced
when no terminal is attached. Its settings are a JSON object in the variable WINDSOCK_SERVICE; it
holds no secrets.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.model import Environment
from windsock.sync.agent import Options
from windsock.sync.board import Board
from windsock.sync.server import ControlServer
from windsock.sync.session import Pace, Session
from windsock.sync.transport import Transport, local_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.sync.control import Message

VARIABLE = "WINDSOCK_SERVICE"

SETTINGS_LOOK = 1.0
"""Seconds between two looks at airflow_settings.yaml: a stat each."""


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """The cluster in which the agent runs, in the pod of the dag-processor.

    Attributes:
        context: A kube context.
        namespace: Of the environment.
        kubeconfig: A file; empty means what kubectl would use.
    """

    context: str
    namespace: str
    kubeconfig: str = ""


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
        from windsock.airflow.importing import import_settings  # noqa: PLC0415 - only on a change

        try:
            environment = Environment.load(self._state_folder)
            changes = import_settings(self._path, environment, state_folder=self._state_folder)
        except WindsockError as error:
            self._publish({"type": "settings", "error": error.message, "hint": error.hint})
        else:
            if changes is not None:
                self._publish({"type": "settings", "summary": changes.summary()})


def _connector(settings: ServiceSettings) -> Callable[[], Transport]:
    """What starts an agent: here, or in the pod of the dag-processor."""
    options = Options(
        store=settings.store,
        socket=settings.processor_socket,
        keep=settings.keep_snapshots,
        maximum_bytes=settings.maximum_bytes,
    )
    pod = settings.pod
    if pod is None:
        return lambda: local_transport(sys.executable, options)

    def connect() -> Transport:
        from windsock.cluster.client import Cluster  # noqa: PLC0415 - heavy
        from windsock.cluster.streams import exec_transport  # noqa: PLC0415 - heavy

        cluster = Cluster.connect(
            context=pod.context, namespace=pod.namespace, kubeconfig=pod.kubeconfig or None
        )
        return exec_transport(cluster, options)

    return connect


class Service:
    """The session, the board and the control server, tied together."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._stop = threading.Event()
        self._server = ControlServer(
            Path(settings.control_socket),
            {
                "status": self._on_status,
                "barrier": self._on_barrier,
                "allow-empty": self._on_allow_empty,
            },
        )
        self._board = Board(self._publish)
        self._session = Session(
            Path(settings.dags_folder),
            connect=_connector(settings),
            on_event=self._board.take,
            pace=Pace(quiet=settings.quiet, longest=settings.longest),
        )
        self._settings_file = SettingsFile(settings, self._publish)

    def run(self) -> None:
        """Sync until `stop`."""
        self._server.start()
        threading.Thread(target=self._look_at_settings, daemon=True).start()
        try:
            self._session.run(self._stop)
        finally:
            self._server.close()

    def stop(self) -> None:
        """End `run`; safe in a signal handler."""
        self._stop.set()

    def _publish(self, message: Message) -> None:
        print(json.dumps(message), flush=True)  # noqa: T201 - the log of this process
        self._server.publish(message)

    def _look_at_settings(self) -> None:
        while not self._stop.wait(SETTINGS_LOOK):
            self._settings_file.look()

    # --- requests -----------------------------------------------------------------------------

    def _on_status(self, _: Message) -> Message:
        return self._board.state()

    def _on_barrier(self, request: Message) -> Message:
        """Wait until Airflow has parsed exactly what is on disk now."""
        timeout = float(request.get("timeout", 60.0))
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if self._board.halted:
                raise EnvironmentFailure(
                    f"the sync is halted: {self._board.halted}",
                    "Put the files back, or run `invoke sync --allow-empty` if it is meant.",
                )
            snapshot = self._session.request_scan(timeout=left)
            if self._board.wait_settled(snapshot, timeout=deadline - time.monotonic()):
                state = self._board.state()
                return {"snapshot": snapshot, "errors": state["errors"], "dags": state["dags"]}
        raise self._too_late(timeout)

    def _too_late(self, timeout: float) -> WindsockError:
        state = self._board.state()
        if state["awaited"]:
            waiting = f"still parsing {', '.join(state['awaited'][:5])}"
        else:
            waiting = "the dag-processor has not told of it"
        return DeadlineExceeded(
            f"Airflow has not parsed the DAG folder within {timeout:.0f} s: {waiting}",
            "`invoke status` and `invoke logs dag-processor` show what it does.",
        )

    def _on_allow_empty(self, _: Message) -> Message:
        self._session.allow_empty()
        return {"allowed": True}


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
