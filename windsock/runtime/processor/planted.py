"""One file of ours that must come through the live dag-processor, at each of its starts.

That the methods have the names we know proves little: another Airflow may call them in another way,
log what they raise, and never list a DAG. So a file is planted beside the folder: it is listed,
queued, and parsed in a forked parser as any other one. Only its DAG is not stored, so nobody sees
it. If it does not come through, this process becomes a stock dag-processor. Whatever a parser sends
of it will do: a cluster policy of the user may refuse the DAG, and all works as it should.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.runtime.processor.first_parse import SMALL_DAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STOCK_VARIABLE = "WINDSOCK_STOCK_DAG_PROCESSOR"
"""Why a stock dag-processor runs, for the process that takes the place of this one."""

PLANTED_SECONDS = 120.0
"""Until the planted file must have come through; a busy machine starts slowly."""


class PlantedFile:
    """The file, and what has become of it.

    Args:
        become_stock: Ends the live dag-processor, for the reason that is given.

    Attributes:
        path: The file; not in the DAG folder.
        waits: Whether it has not come through yet; never if there is no folder to plant it in.
        parsers: Gives the processes of the parsers, which end with the live dag-processor.
    """

    def __init__(self, become_stock: Callable[[str], None]) -> None:
        self._become_stock = become_stock
        self._last = "nothing came of it"
        self._folder = Path(os.devnull)
        self.waits = False
        with contextlib.suppress(OSError):
            self._folder = _folder().resolve()
            (self._folder / "planted.py").write_text(SMALL_DAG, encoding="utf-8")
            self.waits = True
        self.path = self._folder / "planted.py"
        self.parsers: Callable[[], Iterable[int]] = tuple

    def watch(self) -> None:
        """Give up when the time is over; the alarm of this process is ours until then."""
        if not self.waits:
            return
        ours = os.getpid()  # A parser, a fork, inherits what answers the alarm.
        signal.signal(signal.SIGALRM, lambda *_: self._too_late() if os.getpid() == ours else None)
        signal.setitimer(signal.ITIMER_REAL, PLANTED_SECONDS)

    def take(self, result: Any, reason: str) -> None:
        """Take what a parser made of the file.

        Args:
            result: Airflow's; None if the parser ended without one: it may be killed for what
                others do to the machine, so another one gets the file.
            reason: Why, in that case.
        """
        if not self.waits:
            return
        if result is None:
            self._last = reason
            return
        self.waits = False
        self._forget()

    def _too_late(self) -> None:
        if self.waits:
            self._give_up(f"not within {PLANTED_SECONDS:.0f} s: {self._last}")

    def _give_up(self, reason: str) -> None:
        for pid in self.parsers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._forget()
        self._become_stock(f"a dag-processor that parses a file which windsock plants ({reason})")

    def _forget(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _folder() -> Path:
    """Where the file is planted: below AIRFLOW_HOME, where one that was killed leaves no litter."""
    folder = Path(os.environ.get("AIRFLOW_HOME") or os.devnull, "planted")
    try:
        folder.mkdir(exist_ok=True)
    except OSError:  # As in a container that may not write there.
        return Path(tempfile.mkdtemp(prefix="windsock-planted-"))
    return folder


def become_stock(arguments: Sequence[str], reason: str) -> None:
    """Replace this process by a stock dag-processor; it does not return."""
    logging.getLogger("windsock").error("This Airflow has no live dag-processor: %s", reason)
    os.environ[STOCK_VARIABLE] = reason
    program = (sys.executable, "-m", "windsock.runtime.start", "dag-processor", *arguments)
    os.execv(sys.executable, program)  # noqa: S606 - ourselves
