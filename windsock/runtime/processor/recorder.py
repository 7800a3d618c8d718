"""What one parse of a DAG file used, seen from inside its parser.

Airflow forks a process for each file that it parses. In that process an audit hook notes every file
of the bundle that is opened (imports, SQL, YAML: whatever the DAG file reads) and every folder that
is listed. `lookups` notes what was looked for, be it there or not. With that record a save parses
exactly the DAG files again that it may change. `outside` notes why a file may come out differently
although nothing in the bundle has changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from windsock.runtime.processor.given_paths import GIVES, given_paths
from windsock.runtime.processor.lookups import note_modules, note_status
from windsock.runtime.processor.outside import Outside

if TYPE_CHECKING:
    from collections.abc import Iterator

SEPARATOR = b"\0"
BEGUN, USED, READ, OUTSIDE, RESULT = b"b", b"u", b"s", b"o", b"r"
"""How an item of a recording begins: when the parse began; a path that was used; the name of a
setting that was read; what was read outside the bundle; seconds and the result as JSON."""


IMPORT_SYSTEM = ("importlib._bootstrap", "/importlib/metadata/", "/importlib_metadata/")
"""What its source files have in their names; the last is the one that Airflow brings along."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notes:
    """What was noted of one parse.

    Attributes:
        begun: When it began, by the clock `time.monotonic`; None if it has not.
        paths: Those that it used or looked for, relative to the bundle; a folder that was listed
            ends in `/`.
        settings: The variables and connections that it asked Airflow for; see `setting_of`.
        outside: What it read beside the bundle, see `outside`.
        seconds: How long it took, if there is a result.
        result: As JSON. Airflow sends the result of a parser's own file in its own way.
    """

    paths: set[str]
    begun: float | None = None
    settings: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    seconds: float = 0.0
    result: bytes | None = None


class Recording:
    """The notes of one parse.

    It is a file without a name, which the dag-processor shares with the parser that it forks. Each
    path is written at once, so nothing is lost when the parser hangs or is killed.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("windsock-recording")
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        else:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._inode = os.fstat(self._file.fileno()).st_ino

    def begin(self) -> None:
        """Note that the parse begins."""
        self._write(BEGUN + b"%f" % time.monotonic())

    def note_outside(self, reason: str) -> None:
        """Note what was read beside the bundle."""
        self._write(OUTSIDE + os.fsencode(reason))

    def note(self, path: str) -> None:
        """Note a path, relative to the bundle; a folder that was listed ends in `/`."""
        self._write(USED + os.fsencode(path))

    def note_setting(self, name: str) -> None:
        """Note a variable or a connection that was read, as `setting_of` names it."""
        self._write(READ + name.encode("utf-8", "surrogateescape"))

    def finish(self, seconds: float, result: bytes) -> None:
        """Note the result of the parse, and how long it took."""
        self._write(RESULT + b"%.4f " % seconds + result)

    def _write(self, item: bytes) -> None:
        # The DAG file may have closed our file, and have one of its own there.
        with contextlib.suppress(OSError, ValueError):
            if os.fstat(self._file.fileno()).st_ino == self._inode:
                self._file.write(item.replace(SEPARATOR, b"") + SEPARATOR)

    def read(self) -> Notes:
        """What was noted; closes the recording."""
        with self._file:
            return self.peek()

    def peek(self) -> Notes:
        """What has been noted so far; the process that notes may go on."""
        descriptor = self._file.fileno()
        # Without `seek`: the position in the file is shared, too.
        *items, _ = os.pread(descriptor, os.fstat(descriptor).st_size, 0).split(SEPARATOR)
        notes = Notes(
            paths=set(_texts(items, USED)),
            begun=next(filter(None, map(_number, _texts(items, BEGUN))), None),
            settings=frozenset(_texts(items, READ)),
            outside=frozenset(_texts(items, OUTSIDE)),
        )
        for item in items:
            if item.startswith(RESULT):
                seconds, _, result = item[1:].partition(b" ")
                return replace(notes, seconds=_number(os.fsdecode(seconds)) or 0.0, result=result)
        return notes

    def close(self) -> None:
        """Close the file of this process."""
        self._file.close()


def _texts(items: list[bytes], kind: bytes) -> Iterator[str]:
    return (os.fsdecode(item[1:]) for item in items if item.startswith(kind))


def _number(text: str) -> float | None:
    """The number that a text is; None if it is none: a DAG file may write into our file."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def setting_of(request: Any) -> str:
    """The variable or connection that a request to Airflow reads; empty if it reads none.

    Args:
        request: What a parser sends to the dag-processor.

    Returns:
        `variables/KEY` or `connections/ID`; `variables/` for a list of the keys.
    """
    kind = getattr(request, "type", "")
    if kind == "GetVariable":
        return f"variables/{request.key}"
    if kind == "GetConnection":
        return f"connections/{request.conn_id}"
    return "variables/" if kind == "GetVariableKeys" else ""


def record_settings(comms: Any, recording: Recording) -> None:
    """Note each variable and connection that this (forked) process asks Airflow for.

    Args:
        comms: The parser's line to the dag-processor.
        recording: Takes each name.
    """
    send = comms.send

    def note_and_send(_: Any, msg: Any) -> Any:
        if name := setting_of(msg):
            recording.note_setting(name)
        return send(msg)

    # Of the class: its objects take no new attributes.
    type(comms).send = note_and_send


def record_uses(bundle: str, recording: Recording) -> None:
    """Note what this (forked) process uses and looks for, until its end.

    Args:
        bundle: The real path of the snapshot that is parsed.
        recording: Takes each path, relative to `bundle`. The bundle itself is `./`.
    """
    recording.begin()
    uses = _Uses(bundle, recording)
    note_status(uses.take_status)
    note_modules(uses.take, uses.is_inside)
    sys.addaudithook(uses.hook)


class _Uses:
    """Sorts what a parse does into uses of the bundle, and reasons outside."""

    def __init__(self, bundle: str, recording: Recording) -> None:
        self._prefix = bundle.rstrip("/") + "/"
        self._recording = recording
        self._outside = Outside(self._prefix, recording.note_outside)
        self._seen: set[str] = set()
        self._resolving = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "open":
            path = _absolute(_text(arguments[0]))
            if path.endswith(".pyc"):
                path = _source(path)
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if not self.take(path) and flags & os.O_ACCMODE == os.O_RDONLY:
                self._outside.take_path(path)
        elif event in ("os.listdir", "os.scandir"):
            path = _absolute(_text(arguments[0])) + "/"
            # The import system lists folders as well: its own cache, not a choice of the DAG.
            if _called_by_import_system():
                return
            if path.startswith(self._prefix):
                self._note(path[len(self._prefix) :] or "./")
            else:
                self._outside.take_path(path)
        else:
            if event in GIVES:
                with contextlib.suppress(Exception):  # As of a command that is none.
                    for path in given_paths(event, arguments):
                        self._take_given(path)
            self._outside.take_event(event, arguments)

    def is_inside(self, folder: str) -> bool:
        """Whether a folder belongs to the bundle."""
        return (_absolute(folder) + "/").startswith(self._prefix)

    def take(self, path: str) -> bool:
        """Take an absolute path that is used; returns whether it belongs to the bundle."""
        if not path.startswith(self._prefix):
            return False
        if path[len(self._prefix) :] not in self._seen:
            self._note(path[len(self._prefix) :])
            self._resolving = True
            try:
                real = os.path.realpath(path)  # A link: what it leads to is used as well.
            finally:
                self._resolving = False
            if real.startswith(self._prefix):
                self._note(real[len(self._prefix) :])
        return True

    def take_status(self, path: Any, is_folder: bool) -> None:
        """Take a path whose status is asked for."""
        if self._resolving:
            return
        with contextlib.suppress(Exception):  # As of a path that is no path.
            name = _absolute(_text(os.fspath(path)).rstrip("/"))
            if not self.take(name) and not is_folder:
                self._outside.take_path(name)

    def _take_given(self, path: str) -> None:
        """Take a path that something else may read; of a folder, all that is in it."""
        name = _absolute(path.rstrip("/"))
        if not (name + "/").startswith(self._prefix):
            return
        if name + "/" != self._prefix:
            self.take(name)
        self._resolving = True
        try:
            is_folder = os.path.isdir(name)  # noqa: PTH112 - the path need not be a valid one
        finally:
            self._resolving = False
        if is_folder:
            self._note((name + "/").removeprefix(self._prefix) or "./")

    def _note(self, name: str) -> None:
        if name not in self._seen:
            self._seen.add(name)
            self._recording.note(name)


def _text(path: Any) -> str:
    if isinstance(path, bytes):
        return os.fsdecode(path)
    return path if isinstance(path, str) else ""


def _absolute(path: str) -> str:
    """The path as the snapshot's manifest would name it: `dags/x/../y.sql` is `dags/y.sql`."""
    plain = path.startswith("/") and not path.endswith("/") and "/." not in path
    if not path or (plain and "//" not in path):
        return path
    try:
        return os.path.abspath(path)  # noqa: PTH100 - `resolve` would follow links
    except OSError:  # A working folder that was deleted.
        return path


def _source(bytecode: str) -> str:
    """The source file of a bytecode file, wherever PYTHONPYCACHEPREFIX put it."""
    try:
        return importlib.util.source_from_cache(bytecode)
    except ValueError:
        return bytecode


def _called_by_import_system() -> bool:
    caller = sys._getframe(2)  # noqa: SLF001 - an audit hook has no other way to see its caller
    return any(name in caller.f_code.co_filename for name in IMPORT_SYSTEM)
