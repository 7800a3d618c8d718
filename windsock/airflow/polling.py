"""Find out from Airflow's API what became of a save, where the dag-processor sends no events.

A stock dag-processor parses each file again and again, by its clock. Its results are in the API:
the DAGs with the snapshot of their last parse, and the import errors, whose tracebacks name the
snapshot in their paths. This module makes of them the events that a live dag-processor would send.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.events import Event, Parsed, ProcessorState, Removed, Settled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import Dag, ImportFailure

POLL_SECONDS = 1.0
"""Between two looks while a save is not parsed whole."""
IDLE_SECONDS = 5.0
"""Between two looks while nothing is awaited."""
UNLISTED_SECONDS = 15.0
"""How long a file that may hold DAGs is awaited. If the API does not list it then, it has none."""

SNAPSHOT = re.compile(r"[^\s\"']*/snapshots/(?P<id>[0-9a-f]{32})")


@dataclass(kw_only=True)
class _Listed:
    """What the API shows of one file: DAG ids, and path → traceback.

    `stamp` is when the newest of it was stored, `current` whether all comes from the newest
    snapshot.
    """

    dags: list[str] = field(default_factory=list)
    paused: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    stamp: datetime | None = None
    current: bool = True

    def take(self, stamp: datetime | None, *, current: bool) -> None:
        self.current = self.current and current
        if self.stamp is None or (stamp is not None and stamp > self.stamp):
            self.stamp = stamp

    def parsed(self, snapshot: str, file: str, tasks: Callable[[str], int]) -> Parsed:
        """As an event; Airflow's API does not say how long a parse took."""
        dags = {dag_id: tasks(dag_id) for dag_id in self.dags}
        return Parsed(
            snapshot=snapshot,
            file=file,
            seconds=0,
            dags=dags,
            errors=self.errors,
            paused=self.paused,
        )


def _by_file(
    dags: Iterable[Dag], failures: Iterable[ImportFailure], *, snapshot: str, folder: str
) -> dict[str, _Listed]:
    """File → what the API shows of it; tracebacks name the DAG folder, not the snapshot."""
    found: dict[str, _Listed] = {}
    of_files = [dag for dag in dags if dag.file is not None]
    parsed_now = {dag.file for dag in of_files if dag.bundle_version == snapshot}
    for dag in of_files:
        current = dag.bundle_version == snapshot
        if not current and dag.file in parsed_now:
            continue  # Its file no longer defines it. Airflow notices that after a minute.
        listed = found.setdefault(str(dag.file), _Listed())
        listed.dags.append(dag.dag_id)
        if dag.paused and dag.schedule:
            listed.paused[dag.dag_id] = dag.schedule
        listed.take(dag.parsed, current=current)
    for failure in failures:
        named = {match["id"] for match in SNAPSHOT.finditer(failure.traceback)}
        listed = found.setdefault(failure.file, _Listed())
        listed.errors[failure.file] = SNAPSHOT.sub(folder, failure.traceback)
        listed.take(failure.seen, current=not named or snapshot in named)
    return found


def _may_hold_dags(path: Path) -> bool:
    """Whether Airflow would parse a file of this machine, by Airflow's own rule of thumb."""
    try:
        text = path.read_bytes().lower()
    except OSError:
        return False
    return path.suffix == ".py" and b"airflow" in text and (b"dag" in text or b"asset" in text)


class Poll:
    """Looks at the API, and finds what is new.

    A file counts as parsed from a snapshot when its results have been stored twice under it: the
    first ones may come from a parse that began before Airflow used the snapshot.

    Any thread may call `on_snapshot` and `begin`; they never block. One thread calls the rest.

    Args:
        folder: The DAG folder.
        clock: Monotonic seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._news: queue.SimpleQueue[tuple[str, Collection[str]] | None] = queue.SimpleQueue()
        self._snapshot = ""
        self._saved: set[str] = set()
        self._expected: set[str] = set()
        self._since = self._looked = clock()
        self._first: dict[str, datetime | None] = {}
        self._published: dict[str, Parsed] = {}
        self._greeted = self._settled = False

    def on_snapshot(self, snapshot: str, paths: Collection[str] = ()) -> None:
        """The store has a snapshot, with these saved paths; none if nothing was saved."""
        self._news.put((snapshot, paths))

    def begin(self) -> None:
        """Begin anew, with the whole state."""
        self._news.put(None)

    def is_due(self) -> bool:
        """Whether something is awaited, or the last look is long ago."""
        idle = self._settled and self._news.empty()
        return not idle or self._clock() - self._looked >= IDLE_SECONDS

    def look(self, airflow: Airflow) -> list[Event]:
        """Ask, and return what a live dag-processor would have sent since the last look.

        Raises:
            WindsockError: Airflow does not answer.
        """
        self._take_news()
        self._looked = self._clock()
        folder = str(self._folder.resolve())
        found = _by_file(
            airflow.dags(), airflow.import_errors(), snapshot=self._snapshot, folder=folder
        )
        new: list[Event] = [] if self._greeted else [self._greeting(found)]
        fresh = {name for name, listed in found.items() if self._is_fresh(name, listed)}
        gone = sorted(self._published.keys() - found.keys())
        new += [self._removed(name, self._published.pop(name).dags) for name in gone]
        for name in sorted(fresh):
            new += self._parsed(name, found[name], airflow)
        if not self._settled and fresh == found.keys() and not self._lacks(found):
            new.append(self._settling())
        return new

    def _take_news(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            if news is None:
                self._greeted = False
                files = self._folder.rglob("*.py")
                self._expected.update(str(path.relative_to(self._folder)) for path in files)
            else:
                snapshot, paths = news
                if snapshot == self._snapshot and not paths:
                    continue
                self._snapshot = snapshot
                self._saved.update(paths)
                self._expected.update(paths)
            self._first.clear()
            self._settled = False
            self._since = self._clock()

    def _greeting(self, found: dict[str, _Listed]) -> ProcessorState:
        self._greeted = True
        for name, listed in found.items():
            known = self._published.get(name)
            if known is None or not _same(known, listed):
                self._published[name] = listed.parsed(self._snapshot, name, lambda _: 0)
        return ProcessorState(
            snapshot=None,
            awaited=tuple(sorted(found)),
            files=tuple(self._published[name] for name in found),
        )

    def _is_fresh(self, name: str, listed: _Listed) -> bool:
        if not listed.current:
            self._first.pop(name, None)
            return False
        first = self._first.setdefault(name, listed.stamp)
        return first is None or (listed.stamp is not None and listed.stamp > first)

    def _lacks(self, found: Collection[str]) -> bool:
        """Whether Airflow is likely to parse a file that it does not list yet."""
        if self._clock() - self._since > UNLISTED_SECONDS:
            return False
        # Where files are listed, those of before are too: a helper module never will be.
        unlisted = (self._saved if found else self._expected).difference(found)
        return any(_may_hold_dags(self._folder / name) for name in unlisted)

    def _parsed(self, name: str, listed: _Listed, airflow: Airflow) -> list[Event]:
        known = self._published.get(name)
        if known is not None and _same(known, listed) and name not in self._saved:
            return []
        new: list[Event] = []
        gone = set(known.dags if known else ()) - set(listed.dags)
        if gone and not listed.errors:  # Else they are only missing until it is repaired.
            new.append(self._removed(name, gone))
        parsed = listed.parsed(self._snapshot, name, lambda dag_id: len(airflow.tasks(dag_id)))
        self._published[name] = parsed
        self._saved.discard(name)
        return [*new, parsed]

    def _removed(self, name: str, dag_ids: Iterable[str]) -> Removed:
        return Removed(snapshot=self._snapshot, file=name, dags=tuple(sorted(dag_ids)))

    def _settling(self) -> Settled:
        self._settled = True
        self._saved.clear()
        self._expected.clear()
        return Settled(snapshot=self._snapshot, seconds=round(self._clock() - self._since, 4))


def _same(known: Parsed, listed: _Listed) -> bool:
    return set(known.dags) == set(listed.dags) and known.errors == listed.errors


class Polling:
    """Polls while the dag-processor is a stock one, in a thread that starts when it is needed.

    Args:
        poll: What it looks with.
        client: Makes a client of the environment's API.
        publish: Gets each event, as if the dag-processor had sent it.
        pause: Seconds between two looks.
    """

    def __init__(
        self,
        poll: Poll,
        *,
        client: Callable[[], Airflow],
        publish: Callable[[Event], None],
        pause: float = POLL_SECONDS,
    ) -> None:
        self._poll = poll
        self._client = client
        self._publish = publish
        self._pause = pause
        self._airflow: Airflow | None = None
        self._active = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._snapshot = ""
        self._missing: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a person should know of it; empty while the dag-processor is a live one."""
        if not self._active.is_set():
            return ""
        return (
            "this Airflow finds edits by its own clock, some seconds after a save: windsock cannot "
            f"wake it, as it lacks {', '.join(self._missing)}"
        )

    def begin(self, missing: tuple[str, ...]) -> bool:
        """The dag-processor is a stock one: poll from now on.

        Args:
            missing: What this Airflow lacks for the live one.

        Returns:
            Whether that is news.
        """
        news = not self._active.is_set()
        self._missing = missing
        self._poll.begin()
        self._poll.on_snapshot(self._snapshot)
        self._active.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="polling", daemon=True)
            self._thread.start()
        return news

    def end(self) -> None:
        """The dag-processor is a live one: do not poll."""
        self._active.clear()

    def on_snapshot(self, snapshot: str, paths: Collection[str] = ()) -> None:
        """The store has a snapshot, with these saved paths; never blocks."""
        self._snapshot = snapshot
        if self._active.is_set():
            self._poll.on_snapshot(snapshot, paths)

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = self._pause
            if self._active.is_set() and self._poll.is_due():
                self._look()
        self._hang_up()

    def _look(self) -> None:
        """Look once, and publish what is new; an Airflow that does not answer is asked later."""
        try:
            if self._airflow is None:
                self._airflow = self._client()
            new = self._poll.look(self._airflow)
        except WindsockError:
            self._hang_up()
            return
        for event in new:
            if self._active.is_set():
                self._publish(event)

    def _hang_up(self) -> None:
        airflow, self._airflow = self._airflow, None
        if airflow is not None:
            airflow.close()
