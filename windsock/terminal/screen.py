"""A terminal as rich draws it. Importing rich takes 0.1 s: import this module only to draw."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import RenderableType

STYLES = {
    "success": "green",
    "failure": "red",
    "warning": "yellow",
    "detail": "dim",
    "heading": "bold",
}

UNLIMITED = 10_000
"""Columns of a stream that is no terminal: nothing on it is wrapped."""

Part = tuple[str, str]
"""A text, and its style: one of `STYLES`, or empty."""


class Screen(Console):
    """A stream with colour, unless NO_COLOR is set or the terminal has none."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(
            file=stream,
            theme=Theme(STYLES),
            markup=False,
            emoji=False,
            highlight=False,
            color_system=None if os.environ.get("NO_COLOR") else "auto",
            width=None if stream.isatty() else UNLIMITED,
        )

    def print_line(self, *parts: Part) -> None:
        """Print one line; the terminal wraps it."""
        self.print(Text.assemble(*parts), soft_wrap=True)

    def columns(self, rows: Iterable[Iterable[Sequence[Part]]]) -> str:
        """Rows in columns that are as wide as they need, without blanks at the end of a line."""
        grid = Table.grid(padding=(0, 2))
        for row in rows:
            grid.add_row(*(Text.assemble(*cell, overflow="fold") for cell in row))
        with self.capture() as shown:
            self.print(grid)
        return "".join(f"{line.rstrip()}\n" for line in shown.get().splitlines())

    def question(self, *parts: Part) -> Live:
        """Show a question as the last line of the terminal; a person types the answer after it."""
        # It does not refresh itself: that would wipe what the person types.
        live = self._last_line(Text.assemble(*parts), auto_refresh=False)
        live.start(refresh=True)
        self.show_cursor()
        return live

    def moving(self, text: Callable[[], str]) -> Live:
        """A spinner and a text that stay the last line of the terminal."""
        return self._last_line(_Moving(text), auto_refresh=True)

    def _last_line(self, shown: RenderableType, *, auto_refresh: bool) -> Live:
        return Live(
            shown,
            console=self,
            auto_refresh=auto_refresh,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )


class _Moving:
    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._spinner = Spinner("dots")

    def __rich__(self) -> RenderableType:
        # Each line that is printed above draws this one again.
        self._spinner.text = Text(self._text())
        return self._spinner
