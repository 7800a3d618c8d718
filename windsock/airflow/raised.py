"""An exception as a task's log records it: an object for it, and one for each of its causes.

That is Airflow's `error_detail`, the form of structlog's `ExceptionDictTransformer`. A group has
such a list for each of its sub-exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AIRFLOW_FILES = "/site-packages/airflow/"
_INDENT = "    "

Json = dict[str, Any]


def headline(exception: Json) -> str:
    """The type of an exception, and the first line of its message."""
    first = _message(exception).strip().partition("\n")[0]
    return f"{exception.get('exc_type')}: {first}" if first else str(exception.get("exc_type"))


def places(exceptions: Iterable[Json]) -> Iterator[tuple[str, int]]:
    """The files and lines that tell where it was raised, those that tell most first.

    An exception comes before what it holds as a group, and that before its causes; of each the
    innermost frame comes first.
    """
    for exception in exceptions:
        if syntax := exception.get("syntax_error"):
            yield syntax["filename"], syntax["lineno"]
        for frame in reversed(exception.get("frames") or []):
            yield frame["filename"], frame["lineno"]
        for inner in exception.get("exceptions") or ():
            yield from places(inner)


def as_lines(exception: Json) -> Iterator[str]:
    """A traceback; Airflow's own frames above the author's code are counted only."""
    if frames := exception.get("frames"):
        yield "Traceback (most recent call last):"
        yield from _frames(frames)
    if syntax := exception.get("syntax_error"):
        yield from _syntax(syntax)
    yield from f"{exception.get('exc_type')}: {_message(exception)}".splitlines()
    for note in exception.get("exc_notes") or ():
        yield from note.splitlines()
    held = exception.get("exceptions") or ()
    for number, inner in enumerate(held, 1):
        yield f"  sub-exception {number} of {len(held)}:"
        yield from (_INDENT + line for each in inner for line in as_lines(each))


def _message(exception: Json) -> str:
    # The text of a syntax error ends with its place, which is told in another way.
    syntax = exception.get("syntax_error") or {}
    return str(syntax.get("msg") or exception.get("exc_value") or "")


def _frames(frames: list[Json]) -> Iterator[str]:
    inside = [index for index, frame in enumerate(frames) if AIRFLOW_FILES in frame["filename"]]
    # A traceback of Airflow's own frames alone is shown whole.
    hidden = inside[-1] + 1 if inside and inside[-1] + 1 < len(frames) else 0
    if hidden:
        yield f"  ({hidden} frames of Airflow)"
    for frame in frames[hidden:]:
        where = f'File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
        # Without a file it says in place of a name how many frames were not recorded.
        yield f"  {where}" if frame["filename"] else f"  ({frame['name']})"


def _syntax(syntax: Json) -> Iterator[str]:
    """The line that Python does not understand, with a mark where, as Python shows it."""
    yield f'  File "{syntax["filename"]}", line {syntax["lineno"]}'
    code = str(syntax.get("line") or "").rstrip()
    shown = code.lstrip()
    if shown:
        yield _INDENT + shown
        column = syntax["offset"] - 1 - (len(code) - len(shown))
        yield from [f"{_INDENT}{' ' * column}^"] if column >= 0 else []
