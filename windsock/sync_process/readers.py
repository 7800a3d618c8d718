"""Has the DAG files parsed again that read a variable or a connection which has changed.

The dag-processor knows who reads what. It may be away when a change comes, so a change counts as
told once the dag-processor has answered.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from windsock.events import Event, Parsing, ProcessorState, RequestRefused, StockProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class SettingsReaders:
    """What has changed, until the dag-processor has answered.

    Args:
        tell: Sends names, `variables/KEY` or `connections/ID`, to the dag-processor if it is there.
    """

    def __init__(self, tell: Callable[[Iterable[str]], None]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._untold: Counter[str] = Counter()
        """Name → how many answers are awaited: it may change again before the first one."""

    def change(self, names: Iterable[str]) -> None:
        """Have the readers of these parsed; from any thread."""
        changed = frozenset(names)
        with self._changed:
            self._untold.update(changed)
        if changed:
            self._tell(changed)

    def take(self, event: Event) -> None:
        """Notice what the dag-processor says. The state must have taken the event before."""
        match event:
            case Parsing(settings=settings) if settings:
                self._forget(settings)
            case ProcessorState():  # It was away, or has just started: it may not have heard of it.
                with self._changed:
                    names, self._untold = frozenset(self._untold), Counter()
                self.change(names)
            case StockProcessor():  # It parses by its clock.
                self._forget_all()
            case RequestRefused(reason=reason) if "'settings'" in reason:  # It is an older one.
                self._forget_all()

    def _forget(self, names: Iterable[str]) -> None:
        with self._changed:
            self._untold = self._untold - Counter(names)
            self._changed.notify_all()

    def _forget_all(self) -> None:
        with self._changed:
            self._untold.clear()
            self._changed.notify_all()

    def wait(self, *, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the dag-processor knows every change.

        Returns:
            Whether it does.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._untold, timeout=timeout)
