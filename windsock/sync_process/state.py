"""The state of the sync process.

It is made of the events of the session, of the dag-processor and of polling. Events that are news
are published, with what only this process knows: `since_save`, and whether the errors of a file are
`news`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from windsock import events
from windsock.events import Event, Parsed, Parsing, Removed, Settled

if TYPE_CHECKING:
    from collections.abc import Callable

SAVES_REMEMBERED = 64
PROCESSOR = "dag-processor"


class SyncState:
    """The state, to be asked for and waited on.

    Args:
        publish: Gets every event that is news, in order.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        publish: Callable[[Event], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._saves: OrderedDict[str, float] = OrderedDict()
        self.connected = False
        self.busy: events.Busy | None = None
        self._outage: events.Disconnected | None = None
        self._catching_up = False
        self.halted: events.Halted | None = None
        self.refused: events.Refused | None = None
        self.behind = 0
        self._greeted = False
        self.store: str | None = None
        self.settled: str | None = None
        self.awaited: set[str] = set()
        self.problems: dict[str, str] = {}
        self.files: dict[str, Parsed] = {}
        self.warnings: tuple[events.FileWarning, ...] = ()
        self.failing: dict[str, events.ComponentFailing] = {}
        self._has_processor = False

    def take(self, event: Event) -> None:
        """Change the state by an event, and publish what is news."""
        with self._changed:
            news = self._fold(event)
            self._changed.notify_all()
        for each in news:
            self._publish(each)

    def _fold(self, event: Event) -> list[Event]:  # noqa: C901, PLR0912, PLR0915 - one case an event
        """Change the state; returns the events to publish."""
        news = True
        match event:
            case events.Connected():
                news = self._fold_connected(event)
            case events.Disconnected():
                self.connected, self.settled, self._has_processor = False, None, False
                before, self._outage = self._outage, event
                news = before is None or before.reason != event.reason
            case events.Busy():
                self.connected, self.settled, self.busy = False, None, event
                self.halted = None  # The session has ended; the next one tells what it finds.
                self.problems.clear()
            case events.Behind(count=count):
                self.behind = count
                news = self._catching_up
            case events.Sent():
                self._fold_sent(event)
            case events.CaughtUp(snapshot=snapshot):
                self.store, self.refused, self.behind = snapshot, None, 0
                news, self._catching_up = self._catching_up, False
            case events.NotSynced(path=path, reason=reason):
                self.problems[path] = reason
            case events.SyncedAgain(path=path):
                self.problems.pop(path, None)
                news = False
            case events.Halted():
                self.halted = event
            case events.Resumed():
                self.halted = None
            case events.Refused():
                self.refused = event
            case events.ProcessorState():
                return self._fold_state(event)
            case Parsing():
                self.settled = None
                self.awaited.update(event.files)
                event = self._since_save(event)
            case Parsed():
                event = self._fold_parsed(event)
            case Removed():
                self.files.pop(event.file, None)
                event = self._since_save(event)
            case Settled():
                self.awaited.clear()
                self.settled, self.warnings = event.snapshot, event.warnings
                event = self._since_save(event)
            case events.ProcessorConnection(connected=connected):
                self.settled = self.settled if connected else None
                self._has_processor = connected
                news = False
            case events.ComponentFailing(component=component):
                self.failing[component] = event
            case events.ComponentRecovered(component=component):
                self.failing.pop(component, None)
            case events.StockProcessor() | events.References() | events.RequestRefused():
                news = False
        return [event] if news else []

    def _fold_connected(self, event: events.Connected) -> bool:
        news = event.again or self._outage is not None or self.busy is not None
        self.connected, self.store, self.busy, self._outage = True, event.snapshot, None, None
        self._catching_up = news
        return news

    def _fold_sent(self, event: events.Sent) -> None:
        self.store, self.refused, self.behind = event.snapshot, None, 0
        self._saves[event.snapshot] = self._clock() - event.since_save
        while len(self._saves) > SAVES_REMEMBERED:
            self._saves.popitem(last=False)

    def _fold_state(self, state: events.ProcessorState) -> list[Event]:
        """Take the dag-processor's state; the first one is no news, later ones follow a cut."""
        again, self._greeted = self._greeted, True
        self._has_processor = True
        news: list[Event] = [
            self._fold_parsed(each) for each in state.files if each != self.files.get(each.file)
        ]
        self.files = {each.file: each for each in state.files}
        self.awaited = set(state.awaited)
        self.warnings = state.warnings
        self.settled = None if self.awaited else state.snapshot
        if self.settled is not None:
            news.append(
                self._since_save(Settled(snapshot=self.settled, seconds=0, warnings=state.warnings))
            )
        return news if again else []

    def _fold_parsed(self, event: Parsed) -> Event:
        known = self.files.get(event.file)
        self.awaited.discard(event.file)
        self.files[event.file] = event
        news = event.errors != (known.errors if known is not None else {})
        return self._since_save(replace(event, news=news))

    def _since_save(self, event: Parsing | Parsed | Removed | Settled) -> Event:
        saved = self._saves.get(event.snapshot)
        if saved is None:
            return event
        return replace(event, since_save=round(self._clock() - saved, 4))

    @property
    def hopeless(self) -> events.ComponentFailing | None:
        """Why no parse can be waited for: the dag-processor ends again and again, and is away.

        One that lives for minutes between its ends parses what is saved meanwhile.
        """
        return None if self._has_processor else self.failing.get(PROCESSOR)

    def wait_settled(self, snapshot: str, *, timeout: float) -> bool:
        """Wait until Airflow has parsed all of `snapshot`, the store has another one, or none will.

        Args:
            snapshot: A tree id.
            timeout: In seconds.

        Returns:
            Whether `snapshot` is what Airflow has parsed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.settled == snapshot or self.store != snapshot or self.hopeless,
                timeout=timeout,
            )
            return self.settled == snapshot

    def wait_connected(self, *, timeout: float) -> bool:
        """Wait until the agent answers, or somebody else syncs; returns whether it answers."""
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self.busy is not None, timeout=timeout)
            return self.connected

    def take_over(self) -> str:
        """Forget that somebody else syncs; returns the sentence about them, or an empty one."""
        with self._changed:
            busy, self.busy = self.busy, None
            if busy is None:
                return ""
            self._outage = events.Disconnected(reason=busy.reason, retry=0)  # until `Connected`
            return busy.reason

    def used(self) -> dict[str, tuple[str, ...]]:
        """Each DAG file, and the paths that it used when it was parsed last."""
        with self._changed:
            return {file: parsed.used for file, parsed in self.files.items()}

    def as_json(self) -> dict[str, Any]:
        """The state for `invoke status`.

        It is `healthy` as long as saves reach Airflow; `problems` are paths that never do, such as
        a FIFO, with which a person may well go on.
        """
        with self._changed:
            errors = {
                path: trace
                for parsed in self.files.values()
                for path, trace in parsed.errors.items()
            }
            dags = sorted({dag for parsed in self.files.values() for dag in parsed.dags})
            troubles = self._troubles()
            parsed, files = self._progress()
            return {
                "healthy": self.connected
                and all(isinstance(each, events.Behind) for each in troubles),
                "connected": self.connected,
                "busy": self.busy.reason if self.busy else "",
                "halted": self.halted.reason if self.halted else "",
                "snapshot": self.store,
                "settled": self.settled == self.store and self.store is not None,
                "awaited": sorted(self.awaited),
                "parsed": parsed,
                "files": files,
                "dags": dags,
                "errors": errors,
                "problems": dict(self.problems),
                "failing": sorted(self.failing),
                "warnings": [events.to_json(each) for each in self.warnings],
                "troubles": [events.to_json(each) for each in troubles],
                "summary": self._summary(len(dags), len(errors)),
            }

    def _progress(self) -> tuple[int, int]:
        """How many DAG files are parsed, and how many there are."""
        files = len(self.files.keys() | self.awaited)
        return files - len(self.awaited), files

    def _troubles(self) -> list[Event]:
        """Each thing that stops saves from reaching Airflow now, as the event that reported it."""
        outage = None if self.connected or self.busy else self._outage
        behind = events.Behind(count=self.behind) if self.behind else None
        troubles = (self.busy, outage, self.halted, self.refused, behind, *self.failing.values())
        return [each for each in troubles if each is not None]

    def _summary(self, dags: int, errors: int) -> str:
        if self.halted:
            partly = f"sync: {self.halted.reason}; all else is synced"
            return partly if self.halted.folders else f"sync halted: {self.halted.reason}"
        if self.busy:
            return f"sync: {self.busy.reason}. {self.busy.hint}"
        if self.failing or not self.connected:
            outage = "sync: not connected" + (f": {self._outage.reason}" if self._outage else "")
            return "; ".join(each.message for each in self.failing.values()) or outage
        if self.refused:
            return f"sync: the last save could not be stored: {self.refused.message}"
        if self.behind:
            return f"sync: behind by {self.behind} {'file' if self.behind == 1 else 'files'}"
        parsed = "parsed"
        if self.settled != self.store:
            parsed = "being parsed"
            if self.awaited:
                done, files = self._progress()
                parsed += f" ({done} of {files} files)"
        broken = f", {errors} files do not import" if errors else ""
        left_out = len(self.problems)
        but = f", but {left_out} {'path is' if left_out == 1 else 'paths are'} not synced"
        step = "in step with the folder" + (but if left_out else "")
        return f"sync: {step}; {dags} DAGs {parsed}{broken}"
