"""What a person sees. Status goes to stderr, data to stdout; nothing depends on colour.

The one module that writes to the terminal. Colour is left out when NO_COLOR is set or the stream
is no terminal; the words carry the meaning either way.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.live import Live

    from windsock.errors import WindsockError
    from windsock.terminal.screen import Screen

MARKS = {"success": "✓", "failure": "✗", "warning": "!"}


class Console:
    """Prints steps, lines, tables and errors for people, and data for scripts.

    Args:
        data: Where answers go (stdout).
        status: Where progress goes (stderr).
        clock: Monotonic seconds, for the duration of a step.
        answers: Where a person's answers come from (stdin).

    Lines may come from several threads: a running step or a question stays the last line of the
    terminal.
    """

    def __init__(
        self,
        *,
        data: TextIO | None = None,
        status: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        answers: TextIO | None = None,
    ) -> None:
        self._data = data if data is not None else sys.stdout
        self._status = status if status is not None else sys.stderr
        self._clock = clock
        self._answers = answers if answers is not None else sys.stdin
        self._question: Live | None = None

    @functools.cached_property
    def _screen(self) -> Screen:
        return _screen(self._status)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line of status."""
        self._print((text, style))

    def success(self, text: str) -> None:
        """Print that something worked."""
        self._print(_mark("success"), (text, ""))

    def failure(self, text: str) -> None:
        """Print that something failed."""
        self._print(_mark("failure"), (text, ""))

    def warning(self, text: str) -> None:
        """Print what asks for attention."""
        self._print(_mark("warning"), (text, ""))

    def detail(self, text: str) -> None:
        """Print a line of lesser weight below another line."""
        self.line(text, "detail")

    def _print(self, *parts: tuple[str, str]) -> None:
        if self._status.isatty():
            self._screen.print_line(*parts)
        else:
            self._status.write("".join(text for text, _ in parts) + "\n")
            self._status.flush()

    def error(self, error: WindsockError) -> None:
        """Print what went wrong and what to do about it, without a traceback."""
        self.failure(error.message)
        for hint in error.hint.splitlines():
            self.line(f"  {hint}")

    def outcomes(self, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Print a table of status.

        Args:
            rows: Of each its outcome, one of `MARKS`, and its cells.
        """
        self._status.write(
            self._screen.columns(
                [[_mark(outcome), (first, "")], *([(cell, "")] for cell in others)]
                for outcome, (first, *others) in rows
            )
        )
        self._status.flush()

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Print a table of data to stdout."""
        screen = _screen(self._data)
        self._data.write(screen.columns([[(cell, "")] for cell in row] for row in rows))
        self._data.flush()

    def write(self, text: str) -> None:
        """Print one line of data to stdout."""
        self._data.write(text + "\n")
        self._data.flush()

    def json(self, value: Any) -> None:
        """Print data for a script, as one JSON document on stdout."""
        self.write(json.dumps(value, indent=2, sort_keys=True, default=str))

    @property
    def interactive(self) -> bool:
        """Whether a person reads the status and can answer."""
        return self._status.isatty() and self._answers is not None and self._answers.isatty()

    def ask(self, question: str) -> None:
        """Show a question, to be answered through `answer`. Only if `interactive`.

        What was typed before the question is dropped: it does not answer it.
        """
        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcflush(self._answers, termios.TCIFLUSH)
        self._question = self._screen.question(("?", "warning"), (f" {question} ", ""))

    def answer(self) -> str | None:
        """The line that answers `ask`, without waiting: None so far, empty for Enter alone.

        The end of the input is an empty answer.
        """
        if not select.select([self._answers], [], [], 0)[0]:
            return None
        self.withdraw()  # Enter has moved the terminal to its next line: the question stays there.
        return self._answers.readline().strip()

    def withdraw(self) -> None:
        """Take the question of `ask` back."""
        if self._question is not None:
            self._question.stop()
            self._question = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step of a longer piece of work, and its time when it ends."""
        started = self._clock()
        step = Step()

        def line(text: str, digits: int = 1) -> str:
            return f"{title}{text and f': {text}'} ({self._clock() - started:.{digits}f} s)"

        moving: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self._status.isatty():
            moving = self._screen.moving(lambda: line(step.doing, 0))
        try:
            with moving:
                yield step
        except BaseException:
            self.failure(line(""))
            raise
        self.success(line(step.detail))


class Step:
    """A running step.

    Attributes:
        doing: What it is doing, as a terminal shows it.
        detail: What it adds to its closing line.
    """

    def __init__(self) -> None:
        self.doing = ""
        self.detail = ""

    def progress(self, text: str) -> None:
        """Show what the step is doing now; on a terminal only."""
        self.doing = text


def _mark(outcome: str) -> tuple[str, str]:
    return f"{MARKS[outcome]} ", outcome


def _screen(stream: TextIO) -> Screen:
    from windsock.terminal.screen import Screen  # noqa: PLC0415 - lines for a file need no rich

    return Screen(stream)
