"""The project's own requirements: one text, whatever files and encodings it comes from.

The files that it includes are put in their places, because an image's build has only what it is
given, and uv reads UTF-8 alone. So every target installs the same, and an edit of an included file
is an edit. The format: https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from windsock.errors import ConfigurationError
from windsock.files import BOMS, content, decoded

COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""The encoding of a file, as pip and Python read it from one of the first two lines."""
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
COMMENT = re.compile(r"(^|\s+)#.*$")
INCLUDES = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}
"""Option that names another file → whether that file has constraints."""
INCLUDE = re.compile(r"(--requirement|--constraint)(?:\s+|\s*=\s*)(.+)|(-r|-c)\s*=?\s*(.+)")


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What is to be installed.

    Attributes:
        text: The requirements and options, one a line; empty if there are none.
        constraints: The constraints of the files that are named by `-c`, one a line.
        files: All files that were read, or would have been if they existed; the project's first.
    """

    text: str
    constraints: str
    files: tuple[Path, ...]


def read_requirements(file: Path) -> Requirements:
    """Read the project's requirements, which need not exist.

    Raises:
        ConfigurationError: A file cannot be read, or names one that does not exist.
    """
    reader = _Reader()
    if file.exists():
        reader.read(file, constrains=False)
    return Requirements(
        text="".join(f"{line}\n" for line in reader.lines),
        constraints="".join(f"{line}\n" for line in reader.constraints),
        files=tuple(reader.files) or (file,),
    )


def included(file: Path) -> tuple[Path, ...]:
    """The file and those that it includes, as far as they can be read; for watching them."""
    reader = _Reader()
    with suppress(ConfigurationError):  # The file that cannot be read is among them.
        reader.read(file, constrains=False)
    return tuple(reader.files)


@dataclass
class _Reader:
    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def read(self, file: Path, *, constrains: bool) -> None:
        """Take the lines of a file, and of those that it includes; each file once."""
        real = os.path.realpath(file)
        if real in self.seen:
            return
        self.seen.add(real)
        short = Path(os.path.normpath(file))
        file = short if os.path.realpath(short) == real else file
        self.files.append(file)
        for number, line in _logical_lines(_text(file)):
            where = f"{file}, line {number}"
            try:
                line.encode("utf-8")
            except UnicodeEncodeError:
                raise ConfigurationError(
                    f"{where} is in an encoding that cannot be known",
                    "Save it as UTF-8, or name the encoding in its first line: "
                    "`# -*- coding: latin-1 -*-`.",
                ) from None
            self._take(line, file, where, constrains=constrains)

    def _take(self, line: str, file: Path, where: str, *, constrains: bool) -> None:
        found = INCLUDE.fullmatch(line)
        if found is None:
            is_option = line.startswith("-") and not line.startswith(("-e", "--editable"))
            lines = self.constraints if constrains and not is_option else self.lines
            if not (is_option and line in lines):
                lines.append(line)
            return
        option, value = found[1] or found[3], found[2] or found[4]
        name = _name(value, where)
        if "://" in name:
            self.lines.append(f"{option} {name}")
            return
        path = file.parent / Path(name)
        if not path.exists():
            self.files.append(path)
            raise ConfigurationError(
                f"{where} includes {name}, which does not exist",
                f"Make {path}, or take the line out.",
            )
        self.read(path, constrains=INCLUDES[option])


def _name(value: str, where: str) -> str:
    """The file or URL of an option: without quotes, its variables filled in."""
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ConfigurationError(f"{where} is malformed: {error}", "Close the quotes.") from error
    if len(words) != 1:
        words = [value]  # pip takes a name with spaces only in quotes; nobody means two files.
    name = VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), words[0])
    parts = urlsplit(name)
    return unquote(parts.path) if parts.scheme == "file" else name


def _text(file: Path) -> str:
    try:
        data = content(file)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror or error}",
            "It lists what to install: make it a readable file.",
        ) from error
    has_mark = any(data.startswith(mark) for mark, _ in BOMS)
    for line in [] if has_mark else data.splitlines()[:2]:
        if found := COOKIE.match(line):
            try:
                return data.decode(found[1].decode("ascii"))
            except (LookupError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{file} is not what its first lines say: {error}", "Save it as UTF-8."
                ) from error
    return decoded(data)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """The lines without comments, those that end with a backslash joined; each with its number."""
    found: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        start = start if pending else number
        is_comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not is_comment:
            pending += raw[:-1]
            continue
        line = pending + (" " + raw if is_comment else raw)
        pending = ""
        if bare := COMMENT.sub("", line).strip():
            found.append((start, bare))
    if bare := COMMENT.sub("", pending).strip():
        found.append((start, bare))
    return found
