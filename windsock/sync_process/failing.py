"""Tells of each component that ends again and again: once, with the end of its log.

The supervisor starts such a component again and again, and between two ends it looks healthy.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from itertools import pairwise
from typing import TYPE_CHECKING

from windsock.events import ComponentFailing, ComponentRecovered
from windsock.local.crashes import record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from windsock.events import Event
    from windsock.local.crashes import Record

ENDS = 4
"""So many ends in a row are no accident."""

HEALTHY_SECONDS = 600.0
"""A component that lives as long between two ends is well: they are not of one row."""

RECOVERED_SECONDS = 60.0
"""How long a component must live, at least, to count as well again."""


def failing(name: str, what: str, words: str) -> ComponentFailing:
    """The event.

    Args:
        name: The component.
        what: It does, and why, for example `ends again and again: exit status 1`.
        words: The end of its log.
    """
    end = f"The end of its log:\n{words}\n" if words else "It wrote nothing.\n"
    return ComponentFailing(
        component=name,
        message=f"{name} {what}",
        hint=f"{end}`invoke logs {name}` shows more; `invoke restart {name}` tries again.",
    )


class FailingComponents:
    """Watches the supervisor's log.

    Args:
        news: Gives the lines that were written since the last call.
        last_words: Component → the end of its log.
        publish: Gets `ComponentFailing` and `ComponentRecovered`.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        news: Callable[[], Iterable[str]],
        *,
        last_words: Callable[[str], str],
        publish: Callable[[Event], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._news = news
        self._last_words = last_words
        self._publish = publish
        self._clock = clock
        self._ends: dict[str, deque[Record]] = defaultdict(lambda: deque(maxlen=ENDS))
        self._given_up: set[str] = set()
        self._steady: set[str] = set()
        self._failing: set[str] = set()

    def look(self) -> None:
        """Read what is new, and tell what follows from it."""
        for record in filter(None, map(record_of, self._news())):
            self._take(record)
        for name in {*self._ends, *self._given_up} - self._failing:
            if name in self._given_up or self._is_loop(self._ends[name]):
                self._tell(name)
        for name in sorted(self._failing):
            if name in self._steady and not self._has_just_ended(self._ends[name]):
                self._failing.discard(name)
                self._publish(ComponentRecovered(component=name))

    def _take(self, record: Record) -> None:
        name = record.name
        self._steady.discard(name)
        match record.what:
            case "success":
                self._steady.add(name)
            case "exited":
                self._ends[name].append(record)
            case "gave up":
                self._given_up.add(name)
            case "spawned" if name not in self._given_up:
                pass
            case "spawned" | "stopped":  # Somebody wants a new start.
                self._given_up.discard(name)
                self._ends[name].clear()

    def _is_loop(self, ends: deque[Record]) -> bool:
        in_a_row = len(ends) == ENDS and max(_gaps(ends)) < HEALTHY_SECONDS
        return in_a_row and self._has_just_ended(ends)

    def _has_just_ended(self, ends: deque[Record]) -> bool:
        """Whether it may end again soon: it has not lived twice as long as between its ends."""
        if not ends:
            return False
        patience = max(RECOVERED_SECONDS, 2 * max(_gaps(ends), default=0.0))
        return self._clock() - ends[-1].time < min(patience, HEALTHY_SECONDS)

    def _tell(self, name: str) -> None:
        self._failing.add(name)
        what = "ends again and again"
        if name in self._given_up:
            what = "ended at each start, and is not started again"
        reason = self._ends[name][-1].reason if self._ends[name] else "see its log"
        self._publish(failing(name, f"{what}: {reason}", self._last_words(name)))


def _gaps(ends: Iterable[Record]) -> list[float]:
    """Seconds from each end to the next one."""
    return [later.time - earlier.time for earlier, later in pairwise(ends)]
