"""Import errors as lines; one cause that breaks many files is told once, and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from windsock.terminal.import_error import explain

if TYPE_CHECKING:
    from windsock.terminal.console import Console
    from windsock.terminal.import_error import Explained
    from windsock.terminal.places import Places

PLACES_SHOWN = 4
"""How many files a line names; it counts the others."""


@dataclass
class _Cause:
    """What breaks files.

    Attributes:
        first: The file that was shown.
        others: Path → place, of the files that were not.
    """

    first: str
    others: dict[str, str] = field(default_factory=dict)


class BrokenFiles:
    """Prints import errors.

    Args:
        console: Prints.
        places: Where the author's files are.
    """

    def __init__(self, console: Console, places: Places) -> None:
        self._console = console
        self._places = places
        self._causes: dict[tuple[str, str], _Cause] = {}

    def show(self, path: str, trace: str, *, seconds: float | None = None) -> None:
        """Print an error, unless the same cause has been shown with another file.

        Args:
            path: The file, in the snapshot.
            trace: The traceback as Airflow stored it.
            seconds: Since the save that broke the file.
        """
        error = explain(trace, places=self._places, path=path)
        cause = self._causes.setdefault(_cause(error, path), _Cause(path))
        if cause.first != path:
            shown = self._places.shown(path)
            cause.others[path] = error.place if error.place.startswith(f"{shown}:") else shown
            return
        self._show(path, error, seconds)

    def summarize(self) -> None:
        """Print how many more files each cause breaks, and forget them all."""
        for (headline, _), cause in self._causes.items():
            if not cause.others:
                continue
            shown = sorted(cause.others.values())[:PLACES_SHOWN]
            more = len(cause.others) - len(shown)
            names = ", ".join(shown) + (f" and {more} more" if more else "")
            self._console.failure(f"{len(cause.others) + 1} files: {headline}")
            self._console.detail(f"    also {names}")
        self._causes.clear()

    def _show(self, path: str, error: Explained, seconds: float | None) -> None:
        time = "" if seconds is None else f"  {seconds:.2f} s"
        place = error.place or self._places.shown(path)
        self._console.failure(f"{place}  {error.headline}{time}")
        for line in error.details:
            self._console.detail(f"    {line}")
        if error.remedy:
            self._console.line(f"  {error.remedy}")


def _cause(error: Explained, path: str) -> tuple[str, str]:
    """What is the same in two errors of one cause: what cannot be imported, or the failing line."""
    is_missing = error.headline.startswith(("ModuleNotFoundError:", "ImportError:"))
    return error.headline, "" if is_missing else error.place or path


def show_error(
    console: Console, path: str, trace: str, *, places: Places, seconds: float | None = None
) -> None:
    """Print one import error: the author's own file and line first, then what led to it.

    Args:
        console: Prints.
        path: The file, in the snapshot.
        trace: The traceback as Airflow stored it.
        places: Where the author's files are.
        seconds: Since the save that broke the file.
    """
    BrokenFiles(console, places).show(path, trace, seconds=seconds)


def show_errors(console: Console, errors: dict[str, str], *, places: Places) -> None:
    """Print the import errors of several files, path → traceback."""
    broken = BrokenFiles(console, places)
    for path, trace in sorted(errors.items()):
        broken.show(path, trace)
    broken.summarize()
