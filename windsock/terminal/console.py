"""What a person sees. Status goes to stderr, data to stdout; nothing depends on colour.

The one module that writes to the terminal. Colour is left out when NO_COLOR is set or the stream
is no terminal; the words carry the meaning either way.
"""

from __future__ import annotations

import contextlib
import json
import select
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windsock.errors import WindsockError


class Console:
    """Prints steps, lines and errors for people, and data for scripts.

    Args:
        data: Where answers go (stdout).
        status: Where progress goes (stderr).
        colour: Whether to use colour; None asks the stream and the environment.
        clock: Monotonic seconds, for the duration of a step.
        answers: Where a person's answers come from (stdin).

    Lines may come from several threads: what is being shown live, a step or a question, stays the
    last line of the terminal.
    """

    def __init__(
        self,
        *,
        data: TextIO | None = None,
        status: TextIO | None = None,
        colour: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        answers: TextIO | None = None,
    ) -> None:
        self._data = data if data is not None else sys.stdout
        self._status = status if status is not None else sys.stderr
        self._colour = colour
        self._clock = clock
        self._answers = answers if answers is not None else sys.stdin
        self._writing = threading.Lock()
        self._live = ""

    def _styled(self, text: str, style: str) -> str:
        codes = {"success": "32", "failure": "31", "warning": "33", "detail": "2", "strong": "1"}
        return f"\x1b[{codes[style]}m{text}\x1b[0m" if self._use_colour() else text

    def _use_colour(self) -> bool:
        if self._colour is None:
            import os  # noqa: PLC0415 - read when first needed, so a test can set it

            self._colour = self._status.isatty() and not os.environ.get("NO_COLOR")
        return self._colour

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line of status."""
        shown = (self._styled(text, style) if style else text) + "\n"
        with self._writing:
            if self._live:
                shown = f"\r\x1b[2K{shown}{self._live}"
            self._status.write(shown)
            self._status.flush()

    def success(self, text: str) -> None:
        """Print a line that says something worked."""
        self.line(f"{self._styled('✓', 'success')} {text}")

    def failure(self, text: str) -> None:
        """Print a line that says something failed."""
        self.line(f"{self._styled('✗', 'failure')} {text}")

    def warning(self, text: str) -> None:
        """Print a line that asks for attention."""
        self.line(f"{self._styled('!', 'warning')} {text}")

    def detail(self, text: str) -> None:
        """Print a line of lesser weight: detail under another line."""
        self.line(text, "detail")

    def error(self, error: WindsockError) -> None:
        """Print an error as a person wants it: what, and what to do; no traceback."""
        self.failure(error.message)
        for hint in error.hint.splitlines():
            self.line(f"  {hint}")

    def write(self, text: str) -> None:
        """Print one line of data to stdout."""
        self._data.write(text + "\n")
        self._data.flush()

    def json(self, value: Any) -> None:
        """Print data for a script, as one JSON document on stdout."""
        self.write(json.dumps(value, indent=2, sort_keys=True, default=str))

    @property
    def interactive(self) -> bool:
        """Whether somebody reads the status and can answer."""
        return self._status.isatty() and self._answers is not None and self._answers.isatty()

    def ask(self, question: str) -> None:
        """Show a question; `answer` tells what came of it. To be used if `interactive`.

        What was typed before is no answer to it, and is dropped.
        """
        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcflush(self._answers, termios.TCIFLUSH)
        self._rewrite(f"{self._styled('?', 'warning')} {question} ")

    def answer(self) -> str | None:
        """What was answered to `ask`, without waiting; None if nothing yet, empty for Enter alone.

        The end of the input is an empty answer.
        """
        if not select.select([self._answers], [], [], 0)[0]:
            return None
        with self._writing:
            self._live = ""  # The terminal has gone to the next line by the person's Enter.
        return self._answers.readline().strip()

    def withdraw(self) -> None:
        """Take the question of `ask` back."""
        self._rewrite("")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step of a longer piece of work, with its time when it ends."""
        started = self._clock()
        live = self._status.isatty()
        if live:
            self._rewrite(f"  {title} …")
        step = Step(self._rewrite if live else None, title)
        try:
            yield step
        except BaseException:
            self._end_step(live)
            self.failure(f"{title} ({self._clock() - started:.1f} s)")
            raise
        self._end_step(live)
        detail = f": {step.detail}" if step.detail else ""
        self.success(f"{title}{detail} ({self._clock() - started:.1f} s)")

    def _rewrite(self, text: str) -> None:
        with self._writing:
            self._live = text
            self._status.write(f"\r\x1b[2K{text}")
            self._status.flush()

    def _end_step(self, live: bool) -> None:
        if live:
            self._rewrite("")


class Step:
    """A running step: what it is doing, and what it adds to its closing line.

    Args:
        rewrite: Replaces the current line of a terminal; None when there is none.
        title: Of the step.
    """

    def __init__(self, rewrite: Callable[[str], None] | None, title: str) -> None:
        self._rewrite = rewrite
        self._title = title
        self.detail = ""

    def progress(self, text: str) -> None:
        """Show what the step is doing now; on a terminal only."""
        if self._rewrite is not None:
            self._rewrite(f"  {self._title}: {text} …")
