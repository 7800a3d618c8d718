"""What one parse of a DAG file used, seen from inside its parser.

Airflow forks a process for each file that it parses. In that process an audit hook notes every file
of the bundle that is opened (imports, SQL, YAML: whatever the DAG file reads) and every folder that
is listed. With that record a saved helper parses exactly the DAG files again that use it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

SEPARATOR = b"\0"
USED, READ, RESULT = b"u", b"s", b"r"
"""How an item of a recording begins: a path that was used, the name of a setting that was read, or
seconds and the result as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notes:
    """What was noted of one parse.

    Attributes:
        paths: Those that it used, relative to the bundle; a folder that was listed ends in `/`.
        settings: The variables and connections that it asked Airflow for; see `setting_of`.
        seconds: How long it took, if there is a result.
        result: As JSON. Airflow sends the result of a parser's own file in its own way.
    """

    paths: set[str]
    settings: frozenset[str] = frozenset()
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
        with contextlib.suppress(OSError, ValueError):  # The DAG file may have closed our file.
            self._file.write(item + SEPARATOR)

    def read(self) -> Notes:
        """What was noted; closes the recording."""
        with self._file as file:
            file.seek(0)
            *items, _ = file.read().split(SEPARATOR)
        paths = {os.fsdecode(item[1:]) for item in items if item.startswith(USED)}
        settings = frozenset(
            item[1:].decode("utf-8", "surrogateescape") for item in items if item.startswith(READ)
        )
        for item in items:
            if item.startswith(RESULT):
                seconds, _, result = item[1:].partition(b" ")
                return Notes(paths=paths, settings=settings, seconds=float(seconds), result=result)
        return Notes(paths=paths, settings=settings)

    def close(self) -> None:
        """Close the file of this process."""
        self._file.close()


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


def record_opens(bundle: str, recording: Recording) -> None:
    """Install the audit hook; it stays for the life of this (forked) process.

    Args:
        bundle: The real path of the snapshot that is parsed.
        recording: Takes each path, relative to `bundle`. The bundle itself is `./`.
    """
    prefix = bundle.rstrip("/") + "/"
    seen: set[str] = set()

    def note(path: str) -> None:
        if path not in seen:
            seen.add(path)
            recording.note(path)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path = _absolute(_text(arguments[0]))
            if path.endswith(".pyc"):
                path = _source(path)
            if path.startswith(prefix) and path[len(prefix) :] not in seen:
                note(path[len(prefix) :])
                real = os.path.realpath(path)  # A link: what it leads to is used as well.
                if real.startswith(prefix):
                    note(real[len(prefix) :])
        elif event in ("os.listdir", "os.scandir"):
            path = _absolute(_text(arguments[0])) + "/"
            # The import system lists folders as well: its own cache, not a choice of the DAG.
            if path.startswith(prefix) and not _called_by_import_system():
                note(path[len(prefix) :] or "./")

    sys.addaudithook(hook)


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
    return "importlib._bootstrap" in caller.f_code.co_filename
