"""Talks to the sync process of an environment: one JSON object a line over its unix socket.

docs/events.md describes the requests.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.events import Event, from_line
from windsock.json_lines import Client, decode, encode
from windsock.model import ParsedSnapshot, TaskPod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Message = dict[str, Any]

GRACE = 2.0
"""Seconds after a request's deadline in which its answer may still arrive."""


class ControlClient:
    """One client of the sync process at `path`. Each request takes a `timeout` in seconds.

    Args:
        path: Of the unix socket; `Environment.control_socket`.

    Raises:
        EnvironmentFailure: By each request: no sync process answers, or it cannot sync.
        DeadlineExceeded: By each request that waits: it took longer; the message says what is
            missing.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def status(self, *, timeout: float = 5.0) -> Message:
        """The state, see `SyncState.as_json`."""
        return self._ask({"request": "status"}, timeout=timeout)

    def barrier(self, *, timeout: float) -> ParsedSnapshot:
        """Wait until Airflow has parsed exactly the tree that is on disk now."""
        answer = self._ask_for("barrier", timeout)
        return ParsedSnapshot(
            snapshot=answer["snapshot"],
            errors=answer["errors"],
            dags=tuple(answer["dags"]),
            warnings=tuple(answer.get("warnings", ())),
            problems=answer.get("problems", {}),
        )

    def used(self, *, timeout: float = 5.0) -> dict[str, list[str]]:
        """Each DAG file, and the paths that it used when it was parsed last."""
        used: dict[str, list[str]] = self._ask({"request": "used"}, timeout=timeout)["used"]
        return used

    def answers(self) -> bool:
        """Whether a sync process listens."""
        try:
            self.status()
        except WindsockError:
            return False
        return True

    def synced(self, *, timeout: float = 60.0) -> str:
        """Wait until the store has exactly what is on disk now, whether Airflow runs or not.

        Returns:
            The snapshot's tree id.
        """
        return str(self._ask_for("synced", timeout)["snapshot"])

    def settings_changed(self, names: Iterable[str], *, timeout: float = 5.0) -> None:
        """Have the files parsed that read these variables and connections; a barrier waits for it.

        Args:
            names: `variables/KEY` or `connections/ID`, each.
            timeout: Until the sync process has taken the request.
        """
        self._ask({"request": "settings-changed", "names": sorted(names)}, timeout=timeout)

    def allow_empty(self, *, timeout: float = 5.0) -> Message:
        """Sync a folder although it is empty: it was emptied on purpose."""
        return self._ask({"request": "allow-empty"}, timeout=timeout)

    def take_over(self, *, timeout: float = 60.0) -> str:
        """Take the sync over; returns from whom, or an empty text if it was ours."""
        return str(self._ask_for("take-over", timeout)["from"])

    def hold(
        self, dag_id: str, *, run_id: str = "", owner: str = "", timeout: float = 180.0
    ) -> bool:
        """Unpause a DAG for a while: until a run has ended, or else until this process has.

        Args:
            dag_id: Of the DAG.
            run_id: A run of it; the hold ends with it.
            owner: Without a run: names the hold, for `release`.
            timeout: Seconds.

        Returns:
            Whether it was paused, and so will be again.
        """
        request = {"request": "hold", "dag_id": dag_id, "run_id": run_id}
        answer = self._ask({**request, "owner": owner, "pid": os.getpid()}, timeout=timeout)
        return bool(answer["held"])

    def release(self, dag_id: str, owner: str, *, timeout: float = 180.0) -> None:
        """End a hold now; `owner` is its owner or its run."""
        self._ask({"request": "release", "dag_id": dag_id, "owner": owner}, timeout=timeout)

    def waiting_pods(self, dag_id: str, run_id: str, *, timeout: float = 30.0) -> list[TaskPod]:
        """The queued tasks of a run whose pods have not started; none on this machine."""
        return self._ask_for_pods("waiting-pods", dag_id, run_id, timeout)

    def failed_pods(self, dag_id: str, run_id: str, *, timeout: float = 30.0) -> list[TaskPod]:
        """What ended the pods of tasks that failed; none on this machine."""
        return self._ask_for_pods("failed-pods", dag_id, run_id, timeout)

    def attach(self) -> Iterator[Event]:
        """Every event from now on, `Attached` first; ends when the sync process ends."""
        with self._connect() as client, contextlib.suppress(ConnectionError):
            client.send(encode({"request": "attach"}))
            for line in client.lines():
                event = from_line(line)
                if event is not None:
                    yield event

    def _connect(self, timeout: float | None = None) -> Client:
        try:
            return Client(self._path, timeout=timeout)
        except OSError as error:
            raise EnvironmentFailure(
                "the sync process does not answer",
                "`invoke status` shows what runs; `invoke up` starts what is missing.",
            ) from error

    def _ask_for_pods(self, name: str, dag_id: str, run_id: str, timeout: float) -> list[TaskPod]:
        request = {"request": name, "dag_id": dag_id, "run_id": run_id}
        return [TaskPod(**each) for each in self._ask(request, timeout=timeout)["pods"]]

    def _ask_for(self, name: str, timeout: float) -> Message:
        """Send a request that waits up to `timeout` seconds."""
        return self._ask({"request": name, "timeout": timeout}, timeout=timeout + GRACE)

    def _ask(self, request: Message, *, timeout: float) -> Message:
        with self._connect(timeout) as client:
            try:
                client.send(encode(request))
                answer = decode(next(client.lines(), b""))
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the sync process did not answer within {timeout:.0f} s",
                    "`invoke logs sync` shows what it does.",
                ) from None
            except OSError as error:
                raise EnvironmentFailure(
                    f"the sync process ended: {error}", "`invoke logs sync` shows why."
                ) from error
        if answer is None:
            raise EnvironmentFailure("the sync process ended", "`invoke logs sync` shows why.")
        if "error" in answer:
            kind = DeadlineExceeded if answer.get("kind") == "deadline" else EnvironmentFailure
            raise kind(answer["error"], answer.get("hint", ""))
        return answer
