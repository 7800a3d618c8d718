"""The sync process of an environment: it syncs saves, and answers on the control socket.

The target's supervisor runs it as `python -m windsock.sync_process.service`, so that saves are
synced also while no terminal is attached.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock import events
from windsock.airflow.polling import Poll, Polling
from windsock.airflow.settings import PLUGINS
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.local.crashes import LAST_WORDS, SUPERVISOR_LOG
from windsock.local.logs import Tail, last_lines
from windsock.local.programs import LOGS
from windsock.model import Environment
from windsock.sync.protocol import HALT_HINT, StoreBusy
from windsock.sync_process.failing import FailingComponents
from windsock.sync_process.failing_pods import FailingPods
from windsock.sync_process.holding import FILE as HOLDS
from windsock.sync_process.holding import Hold, Holds
from windsock.sync_process.readers import SettingsReaders
from windsock.sync_process.restarts import LOADED, PluginRestarts, restart_airflow
from windsock.sync_process.server import ControlServer
from windsock.sync_process.settings import ServiceSettings
from windsock.sync_process.settings_file import SettingsFile
from windsock.sync_process.state import SyncState
from windsock.sync_process.store_access import SyncAttempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from windsock.airflow.api import Airflow
    from windsock.sync.scan import Difference, Tree
    from windsock.sync_process.control import Message

SETTINGS_LOOK = 1.0
"""Seconds between two looks at airflow_settings.yaml and the supervisor's log: a stat each."""

STOP, TAKE_OVER = "stop", "take over"
"""The orders that `run` takes while somebody else syncs."""


class Service:
    """The parts of the process, and which of them gets which event.

    Args:
        settings: Of the process.
        attempt: Makes a session.
        restart: Restarts Airflow's components.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        attempt: Callable[..., SyncAttempt] = SyncAttempt,
        restart: Callable[[ServiceSettings], None] = restart_airflow,
    ) -> None:
        self._settings = settings
        self._make_attempt = attempt
        state_folder = Path(settings.state_folder)
        self._stop = threading.Event()
        # Reentrant, so that a signal handler may put something into it.
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server = ControlServer(
            Path(settings.control_socket),
            {
                "status": self._status,
                "barrier": self._barrier,
                "settings-changed": self._settings_changed,
                "used": lambda _request: {"used": self._state.used()},
                "allow-empty": self._allow_empty,
                "synced": self._synced,
                "take-over": self._take_over,
                "hold": self._hold,
                "release": self._release,
                "waiting-pods": self._pods,
                "failed-pods": self._pods,
            },
        )
        self._state = SyncState(self._publish)
        self._has_plugins = PLUGINS in settings.further
        self._restarts = PluginRestarts(
            lambda: restart(settings), loaded=state_folder / LOADED, publish=self._state.take
        )
        self._polling = Polling(
            Poll(Path(settings.dags_folder)), client=self._airflow, publish=self._state.take
        )
        self._attempt = self._new_attempt(take_over=False)
        self._readers = SettingsReaders(self._tell_settings)
        logs = state_folder / LOGS
        self._failing = FailingComponents(
            Tail(name="supervisor", path=logs / SUPERVISOR_LOG).new,
            last_words=lambda name: last_lines(logs / f"{name}.log", LAST_WORDS),
            publish=self._state.take,
        )
        self._pods_failing: FailingPods | None = None
        if settings.pod is not None:
            self._pods_failing = FailingPods(settings.pod.connect, publish=self._state.take)
        self._holds = Holds(state_folder / HOLDS, self._airflow)
        self._settings_file = SettingsFile(
            Path(settings.airflow_settings),
            state_folder,
            self._state.take,
            changed=self._readers.change,
            env_file=Path(settings.env_file) if settings.env_file else None,
        )

    def run(self) -> None:
        """Sync until `stop`; while somebody else syncs, wait for the order to take it over."""
        self._server.start()
        threading.Thread(target=self._look_at_settings, daemon=True).start()
        threading.Thread(target=self._holds.run, args=(self._stop,), daemon=True).start()
        threading.Thread(target=self._restarts.run, name="plugins", daemon=True).start()
        if self._pods_failing is not None:  # A cluster that does not answer delays nothing else.
            threading.Thread(
                target=self._pods_failing.run, args=(self._stop,), name="pods", daemon=True
            ).start()
        try:
            while not self._stop.is_set():
                try:
                    self._attempt.run()
                except StoreBusy as busy:
                    self._state.take(events.Busy(reason=busy.message, hint=busy.hint))
                    if self._orders.get() == TAKE_OVER:
                        self._attempt = self._new_attempt(take_over=True)
        finally:
            self._polling.stop()
            self._server.close()

    def stop(self) -> None:
        """End `run`; safe in a signal handler."""
        self._stop.set()
        self._orders.put(STOP)
        self._attempt.stop()

    def _new_attempt(self, *, take_over: bool) -> SyncAttempt:
        return self._make_attempt(
            self._settings, self._on_event, self._on_snapshot, take_over=take_over
        )

    def _on_event(self, event: events.Event) -> None:
        self._state.take(event)
        self._readers.take(event)
        match event:
            case events.Connected(snapshot=None) if self._has_plugins:
                self._restarts.start_empty()
            case events.ProcessorState():
                self._polling.end()
            case events.StockProcessor(missing=missing) if self._polling.begin(missing):
                self._state.take(events.Note(message=self._polling.note))

    def _on_snapshot(self, tree: Tree, changes: Difference) -> None:
        if self._has_plugins:  # A folder of that name among the DAGs is not loaded as plugins.
            self._restarts.on_snapshot(tree, changes)
        self._polling.on_snapshot(tree.id, changes.added + changes.modified)

    def _publish(self, event: events.Event) -> None:
        line = events.to_line(event)
        print(line.decode(), end="", flush=True)  # noqa: T201 - this process's log
        self._server.publish(line)

    def _look_at_settings(self) -> None:
        while not self._stop.wait(SETTINGS_LOOK):
            self._failing.look()
            self._settings_file.look()

    def _airflow(self) -> Airflow:
        from windsock.airflow.api import Airflow  # noqa: PLC0415 - only when Airflow is asked

        return Airflow.of(Environment.load(Path(self._settings.state_folder)))

    def _status(self, _: Message) -> Message:
        state = self._state.as_json()
        state["restarting"] = not self._restarts.wait(timeout=0)
        failure = self._restarts.failure
        if failure is not None:
            state["troubles"].append(events.to_json(failure))
        notes = [*self._attempt.session.notes, self._polling.note]
        state["troubles"] += [
            events.to_json(events.Note(message=message)) for message in notes if message
        ]
        return state

    def _barrier(self, request: Message) -> Message:
        """Wait until Airflow has parsed exactly what is on disk now."""
        timeout = _timeout(request)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if self._state.busy:
                raise EnvironmentFailure(self._state.busy.reason, self._state.busy.hint)
            if self._state.halted and not self._state.halted.folders:
                reason = f"the sync is halted: {self._state.halted.reason}"
                raise EnvironmentFailure(reason, HALT_HINT)
            self._check_processor()
            snapshot = self._attempt.session.request_scan(timeout=left, check=self._check_processor)
            if not self._restarts.wait(timeout=deadline - time.monotonic()):
                break
            self._restarts.check()
            if not self._settings_are_known(deadline):
                break
            if self._state.wait_settled(snapshot, timeout=deadline - time.monotonic()):
                state = self._state.as_json()
                told = ("errors", "dags", "warnings", "problems")
                return {"snapshot": snapshot, **{name: state[name] for name in told}}
        raise self._too_late(timeout)

    def _check_processor(self) -> None:
        """Raise if the dag-processor ends again and again; in a pod, the store's agent does too."""
        if self._state.hopeless and self._pods_failing is not None:
            self._pods_failing.look()  # It may have got a new pod since.
        if failing := self._state.hopeless:
            raise EnvironmentFailure(failing.message, failing.hint)

    def _settings_are_known(self, deadline: float) -> bool:
        """Import airflow_settings.yaml, and wait until the dag-processor knows of it.

        Raises:
            WindsockError: The file cannot be used, or Airflow did not take it in time.
        """
        while (failure := self._settings_file.look(now=True)) is not None:
            # Only a save repairs what is wrong in the file.
            if isinstance(failure, ConfigurationError) or time.monotonic() > deadline:
                raise failure
            self._stop.wait(SETTINGS_LOOK)
        return self._readers.wait(timeout=deadline - time.monotonic())

    def _tell_settings(self, names: Iterable[str]) -> None:
        self._attempt.session.tell_settings(names)

    def _settings_changed(self, request: Message) -> Message:
        names = [str(name) for name in request.get("names") or ()]
        self._readers.change(names)
        return {"names": names}

    def _too_late(self, timeout: float) -> WindsockError:
        if not self._restarts.wait(timeout=0):
            waiting = "plugins changed, and Airflow is being restarted"
        elif not self._readers.wait(timeout=0):
            waiting = "variables or connections changed, and the dag-processor has not heard of it"
        elif awaited := (state := self._state.as_json())["awaited"]:
            waiting = f"still parsing {', '.join(awaited[:5])}"
            if len(awaited) > 1:
                waiting += f"; {state['parsed']} of {state['files']} files are parsed"
        else:
            waiting = "the dag-processor has not reported it"
        return DeadlineExceeded(
            f"Airflow has not parsed the DAG folder within {timeout:.0f} s: {waiting}",
            "`invoke status` and `invoke logs dag-processor` show what it does.",
        )

    def _synced(self, request: Message) -> Message:
        """Wait until the store has what is on disk now, whether Airflow runs or not."""
        timeout = _timeout(request)
        deadline = time.monotonic() + timeout
        snapshot = self._attempt.session.request_scan(timeout=timeout)
        if not self._restarts.wait(timeout=deadline - time.monotonic()):
            raise self._too_late(timeout)
        return {"snapshot": snapshot}

    def _allow_empty(self, _: Message) -> Message:
        self._attempt.session.allow_empty()
        return {"allowed": True}

    def _hold(self, request: Message) -> Message:
        """Unpause a DAG for as long as a run, or the process that asks, needs it."""
        dag_id, run_id, owner = (str(request.get(key, "")) for key in ("dag_id", "run_id", "owner"))
        pid = request.get("pid")
        if not dag_id or not (run_id or (owner and isinstance(pid, int))):
            raise EnvironmentFailure("a hold needs a dag_id, and a run_id or an owner and its pid")
        hold = Hold(run_id=run_id, pid=pid if isinstance(pid, int) else 0, owner=owner or run_id)
        return {"held": self._holds.hold(dag_id, hold)}

    def _release(self, request: Message) -> Message:
        owner = str(request.get("owner") or request.get("run_id") or "")
        self._holds.release(str(request.get("dag_id", "")), owner)
        return {"released": True}

    def _pods(self, request: Message) -> Message:
        """What a cluster knows of the pods of a run's tasks that wait, or that failed."""
        if self._settings.pod is None:
            return {"pods": []}
        from windsock.cluster.worker_pods import (  # noqa: PLC0415 - heavy, and rare
            failed_pods,
            waiting_pods,
        )

        look = waiting_pods if request["request"] == "waiting-pods" else failed_pods
        dag_id, run_id = (str(request.get(key, "")) for key in ("dag_id", "run_id"))
        found = look(self._settings.pod.connect(), dag_id, run_id)
        return {"pods": [asdict(each) for each in found]}

    def _take_over(self, request: Message) -> Message:
        """Take the sync over, and wait until it is ours."""
        reason = self._state.take_over()
        if not reason:
            return {"from": ""}
        self._orders.put(TAKE_OVER)
        if not self._state.wait_connected(timeout=_timeout(request)):
            busy = self._state.busy
            raise EnvironmentFailure(
                busy.reason if busy else "the sync is not connected yet",
                "It is tried again; `invoke status` shows how far it is.",
            )
        return {"from": reason}


def _timeout(request: Message) -> float:
    """The deadline of a request, in seconds from now."""
    try:
        return float(request.get("timeout", 60.0))
    except (TypeError, ValueError):
        raise EnvironmentFailure(
            f"the timeout {request['timeout']!r} is no number", "Give it in seconds."
        ) from None


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    service = Service(ServiceSettings.from_variable(os.environ))

    def end(*_: Any) -> None:
        service.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    service.run()


if __name__ == "__main__":
    main()
