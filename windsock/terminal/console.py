"""What a person sees. Status goes to stderr, data to stdout; nothing depends on colour.

No other module writes to the terminal.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import sys
import termios
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.live import Live

    from windsock.errors import WindsockError
    from windsock.terminal.screen import Screen

MARKS = {"success": "✓", "failure": "✗", "warning": "!"}


class Console:
    """Prints steps, lines, tables and errors for people, and data for scripts.

    Several threads may print: a running step or a question stays the last line of the terminal.

    Args:
        data: By default stdout.
        status: By default stderr.
        clock: Monotonic seconds, for the duration of a step.
        answers: What a person types; by default stdin.
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
        """Print something that a person should notice."""
        self._print(_mark("warning"), (text, ""))

    def detail(self, text: str) -> None:
        """Print a line that explains the line before."""
        self.line(text, "detail")

    def _print(self, *parts: tuple[str, str]) -> None:
        parts = tuple((printable(text), style) for text, style in parts)
        if self._status.isatty():
            self._screen.print_line(*parts)
        else:
            self._status.write("".join(text for text, _ in parts) + "\n")
            self._status.flush()

    def error(self, error: WindsockError) -> None:
        """Print an error's message and hint, without a traceback."""
        self.failure(error.message)
        for hint in error.hint.splitlines():
            self.line(f"  {hint}")

    def outcomes(self, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Print a table of status; each row is an outcome, one of `MARKS`, and its cells."""
        self._status.write(
            self._screen.columns(
                [[_mark(outcome), (first, "")], *([(printable(cell), "")] for cell in others)]
                for outcome, (first, *others) in rows
            )
        )
        self._status.flush()

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Print a table of data to stdout."""
        screen = _screen(self._data)
        self._data.write(screen.columns([[(printable(cell), "")] for cell in row] for row in rows))
        self._data.flush()

    def write(self, text: str) -> None:
        """Print one line of data to stdout."""
        self._data.write(text + "\n")
        self._data.flush()

    def json(self, value: Any) -> None:
        """Print data for a script, as one JSON document on stdout."""
        self.write(json.dumps(value, indent=2, sort_keys=True, default=str))

    @property
    def on_stdout(self) -> Console:
        """The same console for an answer that people read: all its lines are data."""
        return Console(data=self._data, status=self._data, clock=self._clock)

    @property
    def interactive(self) -> bool:
        """Whether a person reads the status and can answer."""
        # Python has no stdin if a parent process closed it.
        return self._status.isatty() and self._answers is not None and self._answers.isatty()

    def ask(self, question: str) -> None:
        """Show a question; `answer` reads the answer. Only if `interactive`.

        What a person typed before the question is dropped: it is no answer.
        """
        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcflush(self._answers, termios.TCIFLUSH)
        self._question = self._screen.question(("?", "warning"), (f" {question} ", ""))

    def answer(self) -> str | None:
        """The line that answers `ask`; None if there is none yet, without waiting.

        Enter alone and the end of the input are an empty answer.
        """
        if not select.select([self._answers], [], [], 0)[0]:
            return None
        self.withdraw()  # Enter has moved the cursor to the next line: the question stays visible.
        return self._answers.readline().strip()

    def confirm(self, question: str) -> bool:
        """Ask, and wait for the answer; whether it is a yes. Only if `interactive`."""
        self.ask(question)
        try:
            select.select([self._answers], [], [])
            return (self.answer() or "").lower() in {"y", "yes"}
        finally:
            self.withdraw()

    def withdraw(self) -> None:
        """Remove the question of `ask`."""
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


@dataclass
class Step:
    """A running step.

    Attributes:
        doing: What it is doing now; only a terminal shows it.
        detail: A part of the line that is printed at its end.
    """

    doing: str = ""
    detail: str = ""

    def progress(self, text: str) -> None:
        """Show what the step is doing now."""
        self.doing = text


_CONTROLS = {
    number: f"\\x{number:02x}"
    for number in (*range(32), *range(127, 160))
    if chr(number) not in "\n\t"
}


def printable(text: str) -> str:
    """A text that changes nothing on a terminal but what it says: authors' errors hold anything."""
    return text.translate(_CONTROLS)


def _mark(outcome: str) -> tuple[str, str]:
    return f"{MARKS[outcome]} ", outcome


def _screen(stream: TextIO) -> Screen:
    from windsock.terminal.screen import Screen  # noqa: PLC0415 - lines for a file need no rich

    return Screen(stream)
