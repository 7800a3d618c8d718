"""What comes in a burst, held back until the last of it is there, but never for long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LONGEST_WAIT = 0.3
"""Seconds that the first of a burst waits, at most, for the others."""

LARGEST_BURST = 50
"""How many are taken together."""


class Burst(Generic[T]):
    """Those that came and were not taken yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[T] = []
        self._since = 0.0

    def add(self, result: T) -> None:
        """Put one off."""
        if not self._waiting:
            self._since = self._clock()
        self._waiting.append(result)

    def is_due(self, *, more_to_come: bool) -> bool:
        """Whether to store now."""
        if not self._waiting:
            return False
        late = self._clock() - self._since >= LONGEST_WAIT
        return late or not more_to_come or len(self._waiting) >= LARGEST_BURST

    def take(self) -> list[T]:
        """All of them, in the order they came; none is left."""
        taken, self._waiting = self._waiting, []
        return taken
