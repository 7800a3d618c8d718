"""How long a sync session waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.config import SyncSettings

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class SyncTimes:
    """The times of a session, in seconds."""

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
    """When to try again: later each time, until an attempt succeeded.

    Args:
        times: The first pause and the longest one.
        clock: Monotonic seconds.
    """

    def __init__(self, times: SyncTimes, clock: Callable[[], float]) -> None:
        self._times = times
        self._clock = clock
        self.due = 0.0
        self._pause = times.retry_first

    def fail(self) -> float:
        """Note that the attempt failed; returns the pause."""
        pause = self._pause
        self.due = self._clock() + pause
        self._pause = min(2 * pause, self._times.retry_longest)
        return pause

    def succeed(self) -> None:
        """Note that the attempt succeeded."""
        self.due, self._pause = 0.0, self._times.retry_first
