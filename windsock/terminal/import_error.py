"""An import error as a person reads it: the exception and its place first, the rest below.

A traceback begins with what happened first and ends with the exception. Its last line is often not
the exception: a message can have several lines, notes can follow, and a group prints its
sub-exceptions. The form is that of Python's module `traceback`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from windsock.terminal.remedies import remedy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from windsock.terminal.places import Places

FRAME = re.compile(r'(?P<indent>[ |]*)  File "(?P<file>[^"]+)", line (?P<line>\d+)')
HEADER = "Traceback (most recent call last):"
GROUP_HEADER = "  + Exception Group Traceback (most recent call last):"
BAR = "  | "
MOST_DETAILS = 60
"""Lines below the headline; of more, as of an endless recursion, the middle is left out."""
TIMEOUT = re.compile(r"(AirflowTaskTimeout: )DagBag import timeout for .* after ([\d.]+)s\.")
ADVICE = ("Please take a look at these docs to improve your DAG import time:", "* http")
"""How the lines begin that Airflow adds to the message of a timeout."""
IN_A_FUNCTION = re.compile(r", line \d+, in ")
"""Every frame has it; the place of a syntax error, and of an error in a template, has not."""
TYPE_ALONE = re.compile(r"[\w.<>]+:")
"""The line of an exception whose message begins with an empty line."""
MODULE_OF_AIRFLOW = re.compile(r"^airflow(\.\w+)+\.(?=[A-Z]\w*(:|$))")
MODULE_OF_A_DAG_FILE = re.compile(r"\bunusual_prefix_[0-9a-f]{40}_")
"""What Airflow puts before the name of a DAG file's module."""
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
        remedy: What to do about it; empty if the error itself says that.
    """

    place: str
    headline: str
    details: list[str]
    remedy: str = ""


def explain(trace: str, *, places: Places, path: str = "") -> Explained:
    """Take an import error apart.

    Args:
        trace: A traceback, or any other text.
        places: Where the author's files are.
        path: The DAG file, in the snapshot. Where another machine named the DAG folder, its frame
            tells how the traceback does.
    """
    files = [match["file"] for line in trace.splitlines() if (match := FRAME.match(line))]
    places = places.as_named_by(files, path=path)
    text = MODULE_OF_A_DAG_FILE.sub("", trace)
    *causes, last = [_without_bars(link) for link in _chain(text.splitlines(), places)]
    index = _headline(last)
    headline, message = last[index].strip() if last else "", last[index + 1 :]
    if index and TYPE_ALONE.fullmatch(headline):
        while message and not message[0].strip():
            del message[0]
        headline = " ".join([headline, *(line.strip() for line in message[:1])])
        del message[:1]
    found = [place for link in (last, *reversed(causes)) if (place := _place(link, places))]
    shown = [*causes, last[:index] + message]
    details = [line for link in shown for line in _without_empty(_own(link, places), bool(causes))]
    details = [places.in_text(line) for line in details if line.strip()]
    headline = places.in_text(headline).removeprefix(f"{path}: ")
    headline = MODULE_OF_AIRFLOW.sub("", headline)
    if timeout := TIMEOUT.match(headline):
        headline = f"{timeout[1]}the import had not ended after {timeout[2]} s"
        details = [line for line in details if not line.startswith(ADVICE)]
    return Explained(
        place=found[0] if found else "",
        headline=headline or "import failed",
        details=_middle_left_out(details),
        remedy=remedy(headline, details, places=places),
    )


def _without_empty(lines: Iterable[str], is_chain: bool) -> list[str]:
    """Without the header of a traceback that stands alone, or whose frames are all left out."""
    shown = [*lines]
    if HEADER in shown:
        header = shown.index(HEADER)
        if not is_chain or not _begins(shown[header + 1 : header + 2]):
            del shown[header]
    return shown


def _middle_left_out(lines: list[str]) -> list[str]:
    count = len(lines) - MOST_DETAILS
    if count <= 0:
        return lines
    begin = MOST_DETAILS // 2
    return [*lines[:begin], f"  [{count} lines left out]", *lines[begin + count :]]


def _chain(lines: Sequence[str], places: Places) -> list[list[str]]:
    """The tracebacks of a chain of exceptions; each after the first with the sentence before it.

    A message can quote a chain. The exception that reached Airflow comes from the file that loads
    the DAG file, which is not the author's: what follows it is its message.
    """
    starts = [
        index
        for index, line in enumerate(lines)
        if line in CHAINS and _begins(lines[index + 2 : index + 3])
    ]
    bounds = [0, *starts, len(lines)]
    links = [list(lines[start:end]) for start, end in pairwise(bounds)]
    loaded = [index for index, link in enumerate(links) if _begins_in_a_foreign_file(link, places)]
    if loaded:
        links[loaded[-1] :] = [[line for link in links[loaded[-1] :] for line in link]]
    return links


def _begins_in_a_foreign_file(link: Iterable[str], places: Places) -> bool:
    # `<frozen runpy>` begins the traceback of a child process, which a message quotes.
    files = (match["file"] for line in link if (match := FRAME.match(line)))
    return any(places.own(file) is None and file[0] != "<" for file in islice(files, 1))


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
        line = lines[index]
        if line.strip() and not line.startswith(" ") and line not in CHAINS:
            return index
    return max(len(lines) - 1, 0)


def _place(link: Sequence[str], places: Places) -> str:
    """The innermost frame in the author's files, of the exception itself if it has one."""
    # Below the headline are the frames of sub-exceptions, and what a message quotes.
    return _innermost(link[: _headline(link)], places) or _innermost(link, places)


def _innermost(lines: Iterable[str], places: Places) -> str:
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
            foreign = places.own(match["file"]) is None and IN_A_FUNCTION.search(line)
            code = match["indent"] + "    " if foreign else ""
        elif code and not line.startswith((code, f"{code[:-4]}  [Previous line repeated ")):
            code = ""
        if not code:
            yield line
