"""An import error as a person reads it: the exception and its place first, the rest below.

A traceback begins with what happened first and ends with the exception. Its last line is often not
the exception: a message can have several lines, notes can follow, and a group prints its
sub-exceptions. The form is that of Python's module `traceback`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from windsock.terminal.places import Places

FRAME = re.compile(r'(?P<indent>[ |]*)  File "(?P<file>[^"]+)", line (?P<line>\d+)')
HEADER = "Traceback (most recent call last):"
GROUP_HEADER = "  + Exception Group Traceback (most recent call last):"
BAR = "  | "
CHAINS = {
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
}
"""Each stands between two tracebacks, with an empty line before and after it."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a terminal shows of an import error.

    Attributes:
        place: `file:line` of the innermost frame in the author's files; empty if there is none.
        headline: The type of the exception, and the first line of its message.
        details: In the order of the traceback: causes, the frames in the author's files, further
            lines of the message, sub-exceptions. Frames in other files are left out.
    """

    place: str
    headline: str
    details: list[str]


def explain(trace: str, *, places: Places) -> Explained:
    """Take an import error apart.

    Args:
        trace: A traceback, or any other text.
        places: Where the author's files are.
    """
    *causes, last = [_without_bars(link) for link in _chain(trace.splitlines())]
    index = _headline(last)
    found = [place for link in (last, *reversed(causes)) if (place := _place(link, places))]
    shown = [*causes, last[:index] + last[index + 1 :]]
    details = [line for link in shown for line in _own(link, places) if causes or line != HEADER]
    headline = last[index].strip() if last else ""
    return Explained(
        place=found[0] if found else "",
        headline=places.in_text(headline) or "import failed",
        details=[places.in_text(line) for line in details if line.strip()],
    )


def _chain(lines: Sequence[str]) -> list[list[str]]:
    """The tracebacks of a chain of exceptions; each after the first with the sentence before it."""
    starts = [
        index
        for index, line in enumerate(lines)
        if line in CHAINS and _begins(lines[index + 2 : index + 3])
    ]
    bounds = [0, *starts, len(lines)]
    return [list(lines[start:end]) for start, end in pairwise(bounds)]


def _begins(lines: Iterable[str]) -> bool:
    return any(line in {HEADER, GROUP_HEADER} or FRAME.match(line) for line in lines)


def _without_bars(lines: list[str]) -> list[str]:
    """Without the bars that Python draws before the lines of an exception group itself."""
    if GROUP_HEADER not in lines:
        return lines
    plain = (HEADER if line == GROUP_HEADER else line for line in lines)
    return [line.removeprefix(BAR) if line.startswith(BAR) else line for line in plain]


def _headline(lines: Sequence[str]) -> int:
    """The index of the line with the exception: the first after the frames."""
    start = lines.index(HEADER) + 1 if HEADER in lines else 0
    for index in range(start, len(lines)):
        if lines[index].strip() and not lines[index].startswith(" "):
            return index
    return max(len(lines) - 1, 0)


def _place(lines: Iterable[str], places: Places) -> str:
    """The innermost frame in the author's files, of the exception itself if it has one."""
    own = [match for line in lines if (match := FRAME.match(line)) and places.own(match["file"])]
    if not own:
        return ""
    outer = min(len(match["indent"]) for match in own)
    last = [match for match in own if len(match["indent"]) == outer][-1]
    return f"{places.own(last['file'])}:{last['line']}"


def _own(lines: Iterable[str], places: Places) -> Iterator[str]:
    """The lines without the frames in files of others."""
    code = ""  # How a line begins that belongs to a frame which is left out.
    for line in lines:
        match = FRAME.match(line)
        if match:
            foreign = places.own(match["file"]) is None
            code = match["indent"] + "    " if foreign else ""
        elif code and not line.startswith((code, f"{code[:-4]}  [Previous line repeated ")):
            code = ""
        if not code:
            yield line
