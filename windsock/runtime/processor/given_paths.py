"""The paths that a parse gives to what no audit event shows at work: other programs, and SQLite."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVES = {"subprocess.Popen", "os.system", "os.posix_spawn", "sqlite3.connect"}
"""The audit events that name such paths; https://docs.python.org/3/library/audit_events.html."""


def given_paths(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """What may be paths among the arguments of one of these events.

    Of a program these are its words, also those after a `=`, and the folder that it runs in, with a
    `/` at its end: it may read all that is in it. A relative path is one from that folder.

    Args:
        event: One of `GIVES`.
        arguments: Of the event.
    """
    folder = ""
    match event, arguments:
        case "sqlite3.connect", (database, *_):
            yield _text(database).removeprefix("file:").partition("?")[0]
            return
        case "subprocess.Popen", (_, command, cwd, *_):
            folder = _text(cwd)
        case ("os.posix_spawn", (_, command, *_)) | ("os.system", (command, *_)):
            pass
        case _:
            return
    if folder:
        yield f"{folder}/"
    for word in _words(command):
        for path in {word, word.rpartition("=")[2]} - {""}:
            yield os.path.join(folder, path)  # noqa: PTH118 - `Path` would lose what ends in `/`


def _words(command: Any) -> Iterator[str]:
    """The words of a command line, be it a list, or a text for the shell."""
    if isinstance(command, (str, bytes, os.PathLike)):
        yield from _split(_text(command))
        return
    for item in command:
        text = _text(item)
        yield text
        if " " in text:  # `sh -c "yq .x conf.yaml"`
            yield from _split(text)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # Quotes that do not match.
        return text.split()


def _text(value: Any) -> str:
    try:
        return os.fsdecode(value)
    except TypeError:  # None, or what is no path.
        return ""
