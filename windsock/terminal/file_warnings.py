"""Show what an author should know of a file although it is not broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windsock.terminal.console import Console
    from windsock.terminal.places import Places


def show_warning(console: Console, warning: events.FileWarning, *, places: Places) -> None:
    """Print what an author should know of a file: its place first."""
    line = "" if warning.line is None else f":{warning.line}"
    console.warning(f"{places.shown(warning.file)}{line}  {warning.message}")


def show_warnings(console: Console, warnings: Iterable[Any], *, places: Places) -> None:
    """Print warnings, which are JSON objects."""
    for each in map(events.from_json, warnings):
        if isinstance(each, events.FileWarning):
            show_warning(console, each, places=places)
