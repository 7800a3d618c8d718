"""What Airflow made of a save where its dag-processor cannot tell: by looking at its API.

A stock dag-processor parses each file again and again, by its clock.
Its results are in the API: the DAGs with the snapshot of their last parse, and the import errors,
whose tracebacks name the snapshot in their paths. From these come the messages that a live
dag-processor would have sent (see `windsock.sync_process.board`).
"""

from __future__ import annotations

import queue
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import Dag, ImportFailure

Message = dict[str, Any]

POLL_SECONDS = 1.0
"""Between two looks while a save is not parsed whole."""
IDLE_SECONDS = 5.0
"""Between two looks while nothing is awaited."""
UNLISTED_SECONDS = 15.0
"""How long a file that may hold DAGs is awaited: if Airflow says nothing of it, it holds none."""

SNAPSHOT = re.compile(r"[^\s\"']*/snapshots/(?P<id>[0-9a-f]{32})")


@dataclass(kw_only=True)
class Parsed:
    """What the API shows of one file.

    Attributes:
        dags: The ids of its DAGs.
        errors: Path → traceback.
        stamp: When the newest of it was stored.
        current: Whether all of it comes from the newest snapshot.
    """

    dags: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    stamp: datetime | None = None
    current: bool = True

    def take(self, stamp: datetime | None, *, current: bool) -> None:
        """Account for one more record."""
        self.current = self.current and current
        if self.stamp is None or (stamp is not None and stamp > self.stamp):
            self.stamp = stamp

    @property
    def told(self) -> Message:
        """As a message says it; Airflow's API does not tell how long a parse took."""
        return {"dags": dict.fromkeys(self.dags, 0), "errors": self.errors, "seconds": 0.0}


def by_file(
    dags: Iterable[Dag], failures: Iterable[ImportFailure], *, snapshot: str, folder: str
) -> dict[str, Parsed]:
    """File → what is known of it.

    Args:
        dags: All DAGs that Airflow lists.
        failures: All import errors.
        snapshot: The newest one.
        folder: The DAG folder, as tracebacks shall name it.
    """
    found: dict[str, Parsed] = {}
    listed = [dag for dag in dags if dag.file is not None]
    turned = {dag.file for dag in listed if dag.bundle_version == snapshot}
    for dag in listed:
        current = dag.bundle_version == snapshot
        if not current and dag.file in turned:
            continue  # It has gone from a file that stays; Airflow takes a minute to see that.
        parsed = found.setdefault(str(dag.file), Parsed())
        parsed.dags.append(dag.dag_id)
        parsed.take(dag.parsed, current=current)
    for failure in failures:
        named = {match["id"] for match in SNAPSHOT.finditer(failure.traceback)}
        parsed = found.setdefault(failure.file, Parsed())
        parsed.errors[failure.file] = SNAPSHOT.sub(folder, failure.traceback)
        parsed.take(failure.seen, current=not named or snapshot in named)
    return found


def may_hold_dags(path: Path) -> bool:
    """Whether Airflow would parse a file: its own rule of thumb, on a file of this machine."""
    try:
        text = path.read_bytes().lower()
    except OSError:
        return False
    return path.suffix == ".py" and b"airflow" in text and (b"dag" in text or b"asset" in text)


class Poll:
    """Looks at the API, and says what is new.

    A file counts as parsed from a snapshot when its results have been stored twice under it: the
    first ones may come from a parse that began before Airflow turned to the snapshot.

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
        self._told: dict[str, Message] = {}
        self._greeted = self._settled = False

    # for any thread; never blocks

    def turn(self, snapshot: str, paths: Collection[str] = ()) -> None:
        """The store has turned to a snapshot.

        Args:
            snapshot: Its tree id.
            paths: What was saved; nothing if it is only known again what is there.
        """
        self._news.put((snapshot, paths))

    def begin(self) -> None:
        """Nobody knows any more what was told: begin with a greeting."""
        self._news.put(None)

    # for the thread that looks

    def is_due(self) -> bool:
        """Whether something is awaited, or the last look is long ago."""
        idle = self._settled and self._news.empty()
        return not idle or self._clock() - self._looked >= IDLE_SECONDS

    def look(self, airflow: Airflow) -> list[Message]:
        """Ask, and return what a live dag-processor would have said since the last look.

        Raises:
            WindsockError: Airflow does not answer.
        """
        self._take_news()
        self._looked = self._clock()
        folder = str(self._folder.resolve())
        found = by_file(
            airflow.dags(), airflow.import_errors(), snapshot=self._snapshot, folder=folder
        )
        messages = [] if self._greeted else [self._greeting(found)]
        fresh = {name for name, parsed in found.items() if self._is_fresh(name, parsed)}
        gone = sorted(self._told.keys() - found.keys())
        messages += [self._removed(name, self._told.pop(name)["dags"]) for name in gone]
        for name in sorted(fresh):
            messages += self._parsed(name, found[name], airflow)
        if not self._settled and fresh == found.keys() and not self._lacks(found):
            messages.append(self._settling())
        return messages

    def _take_news(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            if news is None:
                self._greeted = False
                self._expect(path.relative_to(self._folder) for path in self._folder.rglob("*.py"))
            else:
                snapshot, paths = news
                if snapshot == self._snapshot and not paths:
                    continue
                self._snapshot = snapshot
                self._saved.update(paths)
                self._expect(paths)
            self._first.clear()
            self._settled = False
            self._since = self._clock()

    def _expect(self, paths: Iterable[str | Path]) -> None:
        names = [str(path) for path in paths]
        self._expected.update(name for name in names if may_hold_dags(self._folder / name))

    def _greeting(self, found: dict[str, Parsed]) -> Message:
        self._greeted = True
        for name, parsed in found.items():
            told = self._told.get(name)
            if told is None or not _same(told, parsed):
                self._told[name] = parsed.told
        return {
            "type": "hello",
            "snapshot": None,
            "awaited": sorted(found),
            "files": {name: self._told[name] for name in found},
        }

    def _is_fresh(self, name: str, parsed: Parsed) -> bool:
        if not parsed.current:
            self._first.pop(name, None)
            return False
        first = self._first.setdefault(name, parsed.stamp)
        return first is None or (parsed.stamp is not None and parsed.stamp > first)

    def _lacks(self, found: Collection[str]) -> bool:
        """Whether something was saved that Airflow is likely to parse, and has not yet."""
        if self._clock() - self._since > UNLISTED_SECONDS:
            return False
        return any(name not in found and may_hold_dags(self._folder / name) for name in self._saved)

    def _parsed(self, name: str, parsed: Parsed, airflow: Airflow) -> list[Message]:
        """What became of a file, if that is news or the file was saved."""
        told = self._told.get(name)
        if told is not None and _same(told, parsed) and name not in self._saved:
            return []
        messages = []
        gone = set(told["dags"] if told else ()) - set(parsed.dags)
        if gone and not parsed.errors:  # Else they are only not to be had until it is repaired.
            messages.append(self._removed(name, gone))
        outcome = parsed.told
        outcome["dags"] = {dag_id: len(airflow.tasks(dag_id)) for dag_id in parsed.dags}
        self._told[name] = outcome
        self._saved.discard(name)
        messages.append({"type": "parsed", "snapshot": self._snapshot, "file": name, **outcome})
        return messages

    def _removed(self, name: str, dag_ids: Iterable[str]) -> Message:
        dags = sorted(dag_ids)
        return {"type": "removed", "snapshot": self._snapshot, "file": name, "dags": dags}

    def _settling(self) -> Message:
        self._settled = True
        self._saved.clear()
        self._expected.clear()
        seconds = round(self._clock() - self._since, 4)
        return {"type": "settled", "snapshot": self._snapshot, "seconds": seconds}


def _same(told: Message, parsed: Parsed) -> bool:
    """Whether nothing but the parse itself is new."""
    return set(told["dags"]) == set(parsed.dags) and bool(told["errors"] == parsed.errors)


class Polling:
    """Polls while the dag-processor is a stock one, in a thread that starts when it is needed.

    Args:
        poll: What it looks with.
        client: Makes a client of the environment's API.
        tell: Gets each message, as if the dag-processor had sent it.
    """

    def __init__(
        self, poll: Poll, *, client: Callable[[], Airflow], tell: Callable[[Message], None]
    ) -> None:
        self._poll = poll
        self._client = client
        self._tell = tell
        self._airflow: Airflow | None = None
        self._active = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._snapshot = ""
        self.missing: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a person should know of it; empty while the dag-processor is a live one."""
        if not self._active.is_set():
            return ""
        return (
            "this Airflow finds edits by its own clock, some seconds after a save: windsock cannot "
            f"wake it, as it lacks {', '.join(self.missing)}"
        )

    def hear(self, message: Message) -> bool:
        """What the dag-processor says of itself.

        Returns:
            Whether it is news that this one is stock.
        """
        if message.get("type") == "hello":
            self._active.clear()
        if message.get("type") != "stock":
            return False
        news = not self._active.is_set()
        self.missing = tuple(message.get("missing", ()))
        self._poll.begin()
        self._poll.turn(self._snapshot)
        self._active.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name="polling", daemon=True)
            self._thread.start()
        return news

    def turn(self, snapshot: str, paths: Collection[str] = ()) -> None:
        """See `Poll.turn`."""
        self._snapshot = snapshot
        if self._active.is_set():
            self._poll.turn(snapshot, paths)

    def run(self) -> None:
        """Look again and again, until `stop`."""
        pause = 0.0
        while not self._stop.wait(pause):
            pause = POLL_SECONDS
            if self._active.is_set() and self._poll.is_due():
                self.look()
        self._hang_up()

    def look(self) -> None:
        """Look once, and tell; an Airflow that does not answer is asked again later."""
        try:
            if self._airflow is None:
                self._airflow = self._client()
            messages = self._poll.look(self._airflow)
        except WindsockError:
            self._hang_up()
            return
        for message in messages:
            if self._active.is_set():
                self._tell(message)

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()

    def _hang_up(self) -> None:
        airflow, self._airflow = self._airflow, None
        if airflow is not None:
            airflow.close()
