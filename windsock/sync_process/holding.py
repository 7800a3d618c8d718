"""DAGs that are unpaused for as long as a run of them goes on.

DAGs are paused in a dev environment, and a paused DAG's runs do not start. Who starts a run asks
for a hold: the DAG is unpaused until the run has ended, and then paused again. The sync process
does that, since it outlives the command or the test: a Ctrl-C, a timeout or a `kill -9` of them
leaves no DAG unpaused. Holds are written to a file, so that they survive the sync process, too.

An unpaused DAG also starts by its schedule. Nobody asked for these runs: they are stopped as soon
as they are seen, and deleted when the DAG is paused again.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from windsock.errors import WindsockError
from windsock.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import DagRun

FILE = "holds.json"
"""In the state folder."""
LOOK_SECONDS = 0.5
"""Between two looks at the runs of the DAGs that are held."""
_SCHEDULED = "scheduled__"
"""How the id of a run begins that the schedule has started."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One wish that a DAG be unpaused.

    Attributes:
        run_id: It ends with this run; empty for one that ends with its process.
        pid: The process that asked.
        owner: Names the hold; unique for its DAG.
    """

    run_id: str
    pid: int
    owner: str


@dataclass(kw_only=True)
class _Held:
    """A DAG that was paused, and is not for a while.

    Attributes:
        before: The ids of its scheduled runs when it was unpaused; None if an older windsock
            unpaused it, which did not keep them.
        holds: Owner → hold.
        unasked: The ids of runs that its schedule started meanwhile.
    """

    before: list[str] | None
    holds: dict[str, Hold] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)


class Holds:
    """The holds of an environment; any thread may call.

    Args:
        file: Where they are kept.
        client: Makes a client of the environment's API.
    """

    def __init__(self, file: Path, client: Callable[[], Airflow]) -> None:
        self._file = file
        self._client = client
        self._lock = threading.Lock()
        self._held = self._load()

    def hold(self, dag_id: str, hold: Hold) -> bool:
        """Unpause a DAG until the hold ends.

        Returns:
            Whether it was paused; else nothing is put back.

        Raises:
            WindsockError: Airflow does not do it.
        """
        with self._lock, self._client() as airflow:
            held = self._held.get(dag_id)
            if held is None:
                if not airflow.dag(dag_id).paused:
                    return False
                before = [run.run_id for run in _scheduled(airflow, dag_id)]
                held = self._held[dag_id] = _Held(before=before)
            held.holds[hold.owner] = hold
            self._save()  # First: whoever ends now finds out what is to be put back.
            airflow.pause(dag_id, paused=False)
            return True

    def release(self, dag_id: str, owner: str) -> None:
        """End a hold; the last one pauses the DAG again.

        Raises:
            WindsockError: Airflow does not do it; it is tried again.
        """
        with self._lock:
            held = self._held.get(dag_id)
            if held is None or held.holds.pop(owner, None) is None:
                return
            with self._client() as airflow, self._forgotten_if_gone(dag_id):
                self._end_if_free(airflow, dag_id, held)

    def run(self, stop: threading.Event) -> None:
        """Look after the holds until `stop` is set."""
        while not stop.wait(LOOK_SECONDS):
            # Whatever is the matter, and whatever answers in Airflow's place, it is asked again.
            with contextlib.suppress(Exception):
                self.look()

    def look(self) -> None:
        """End the holds whose run has ended or whose process is gone; stop what nobody asked for.

        A DAG for which this fails does not keep the others from it.

        Raises:
            WindsockError: No environment is up.
        """
        with self._lock:
            if not self._held:
                return
            with self._client() as airflow:
                for dag_id, held in list(self._held.items()):
                    with contextlib.suppress(Exception), self._forgotten_if_gone(dag_id):
                        self._look_at(airflow, dag_id, held)

    def _look_at(self, airflow: Airflow, dag_id: str, held: _Held) -> None:
        self._stop_unasked(airflow, dag_id, held)
        for hold in list(held.holds.values()):
            if _is_over(airflow, dag_id, hold):
                del held.holds[hold.owner]
        self._end_if_free(airflow, dag_id, held)

    @contextlib.contextmanager
    def _forgotten_if_gone(self, dag_id: str) -> Iterator[None]:
        """Forget a DAG that Airflow has no more: nothing of it can be put back."""
        from windsock.airflow.api import NotFound  # noqa: PLC0415 - as in `_is_over`

        try:
            yield
        except NotFound:
            del self._held[dag_id]
            self._save()

    def _stop_unasked(self, airflow: Airflow, dag_id: str, held: _Held) -> None:
        from windsock.airflow.api import NotFound  # noqa: PLC0415 - as in `_is_over`

        if held.before is None:
            return
        known = {*held.before, *held.unasked}
        for run in _scheduled(airflow, dag_id):
            if run.run_id in known:
                continue
            if not run.finished:  # A short one may have ended since the last look.
                with contextlib.suppress(NotFound):  # Somebody has just deleted it.
                    airflow.stop(dag_id, run.run_id)
            held.unasked.append(run.run_id)
            self._save()

    def _end_if_free(self, airflow: Airflow, dag_id: str, held: _Held) -> None:
        """Pause a DAG that nobody holds any more, then delete what it started by itself."""
        if not held.holds:
            airflow.pause(dag_id, paused=True)
            self._stop_unasked(airflow, dag_id, held)
            for run_id in held.unasked:
                with contextlib.suppress(WindsockError):  # It may be deleted already.
                    airflow.delete_run(dag_id, run_id)
            del self._held[dag_id]
        self._save()

    def _save(self) -> None:
        text = json.dumps({dag_id: asdict(held) for dag_id, held in self._held.items()}, indent=1)
        with contextlib.suppress(WindsockError):  # A full disk must not keep a DAG unpaused.
            write_whole(self._file, text + "\n")

    def _load(self) -> dict[str, _Held]:
        """What an earlier sync process left; a damaged file holds nothing."""
        try:
            values: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
            return {
                dag_id: _Held(
                    before=item.get("before"),
                    unasked=list(item["unasked"]),
                    holds={owner: Hold(**hold) for owner, hold in item["holds"].items()},
                )
                for dag_id, item in values.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def _scheduled(airflow: Airflow, dag_id: str) -> list[DagRun]:
    return airflow.runs(dag_id, run_id_prefix=_SCHEDULED)


def _is_over(airflow: Airflow, dag_id: str, hold: Hold) -> bool:
    from windsock.airflow.api import NotFound  # noqa: PLC0415 - httpx, only while something is held

    if not hold.run_id:
        return not psutil.pid_exists(hold.pid)
    try:
        return airflow.run(dag_id, hold.run_id).finished
    except NotFound:
        return True
