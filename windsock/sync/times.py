"""The times of a sync session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.config import SyncSettings

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY_PATIENCE = 1.0
"""Seconds until a file that became empty counts as meant: some programs empty a file, and write it
a moment later."""


@dataclass(frozen=True, kw_only=True)
class SyncTimes:
    """All in seconds."""

    quiet: float = SyncSettings.quiet
    """Without a further change, until a change is sent."""
    longest: float = SyncSettings.longest
    """Until a change is sent although others keep coming."""
    retry_first: float = 0.1
    """Until the first new attempt after a lost connection or a refusal; doubled each time."""
    retry_longest: float = 5.0
    """Between attempts, at most."""
    start: float = 30.0
    """Until an agent must have started."""


class Retry:
    """The time of the next attempt: later after each failure."""

    def __init__(self, times: SyncTimes, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self._pause = times.retry_first
        self.due = 0.0

    def fail(self) -> float:
        """An attempt failed; returns the pause in seconds."""
        pause = self._pause
        self.due = self._clock() + pause
        self._pause = min(2 * pause, self._times.retry_longest)
        return pause

    def succeed(self) -> None:
        """An attempt succeeded."""
        self.due, self._pause = 0.0, self._times.retry_first
