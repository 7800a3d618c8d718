"""What one parse of a DAG file really used, and why it ended: seen from inside the parser.

Airflow forks a process for each file it parses. In that process an audit hook notes every file of
the bundle that is opened (imports, SQL, YAML: whatever the DAG reads) and every folder that is
listed, and writes each to a socket the moment it is first seen, so that nothing is lost when the
file then hangs or kills its parser. With that record a saved helper re-parses exactly the DAG files
that use it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import selectors
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

from windsock.runtime.processor.companions import parse_in_a_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windsock.runtime.processor.companions import Passenger

MEBIBYTE = 1024 * 1024
SPARE_MEBIBYTES = 512
"""What a parser may use beyond its limit to tell that it has reached it."""
SEPARATOR = b"\0"
USED, RESULT = b"u", b"r"
"""How what is sent begins: a path that was used, or the result as JSON, of a companion alone."""


class Recording:
    """The dag-processor's end: the paths that one running parse has used so far.

    Attributes:
        paths: Relative to the bundle; a folder that was listed ends in `/`.
        result: What a companion made of its file, as JSON; Airflow hears of its parser's own file
            in its own way.
    """

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self._pending = bytearray()
        self.paths: set[str] = set()
        self.result: bytes | None = None

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Read as the parser writes, in the dag-processor's own loop; called after the fork."""
        self.writer.close()  # The parser has its own copy; ours would hide its end.

        def forget(reader: socket.socket) -> None:
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(reader)

        selector.register(self.reader, selectors.EVENT_READ, (self.read, forget))

    def read(self, _: socket.socket | None = None) -> bool:
        """Take in what has arrived; False once the parser has ended. Fits Airflow's selector."""
        try:
            while data := self.reader.recv(65536):
                self._pending += data
            ended = True
        except (BlockingIOError, InterruptedError):
            ended = False
        except OSError:
            ended = True
        *whole, rest = self._pending.split(SEPARATOR)
        self._pending = bytearray(rest)
        for item in map(bytes, whole):
            if item.startswith(RESULT):
                self.result = item.removeprefix(RESULT)
            else:
                self.paths.add(os.fsdecode(item.removeprefix(USED)))
        return not ended


def record_opens(bundle: str, writer: socket.socket) -> None:
    """Install the audit hook; it stays for the life of this (forked) process.

    Args:
        bundle: The real path of the snapshot that is parsed.
        writer: Gets each path, relative to `bundle`, between `USED` and a NUL; a folder that was
            listed ends in `/` (the bundle itself is `./`).
    """
    prefix = bundle.rstrip("/") + "/"
    seen: set[str] = set()

    def note(path: str) -> None:
        if path not in seen:
            seen.add(path)
            with contextlib.suppress(OSError):
                writer.sendall(USED + os.fsencode(path) + SEPARATOR)

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


def limit_memory(mebibytes: int) -> None:
    """Cap the address space of this process, so that a DAG cannot eat the machine's memory.

    Args:
        mebibytes: The limit; 0 leaves it open.
    """
    if mebibytes > 0:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = mebibytes * MEBIBYTE
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def parse_entrypoint(
    *,
    bundle: str,
    writer: socket.socket,
    memory_limit: int,
    before: Callable[[], None],
    companions: Sequence[Passenger] = (),
) -> Callable[[], None]:
    """What the forked parser runs instead of Airflow's own entry point, which it wraps.

    Args:
        bundle: The real path of the snapshot that is parsed.
        writer: Gets the paths that the parse uses.
        memory_limit: In MiB; 0 for none.
        before: Called first: closes what the fork inherited and must not use.
        companions: Files to parse before its own, see `windsock.runtime.processor.companions`.

    Two ways for a DAG file to vanish without a word are closed here: `sys.exit()` on import, which
    Airflow lets end the parser, and running out of memory.
    """

    def run() -> None:
        from airflow.dag_processing import processor  # noqa: PLC0415 - only Airflow has it

        original = processor._parse_file  # noqa: SLF001 - the seam this module stands on

        def parse_one(message: Any, log: Any, writer: socket.socket) -> Any:
            limit_memory(memory_limit)
            record_opens(bundle, writer)
            try:
                return original(message, log)
            except (SystemExit, MemoryError):
                limit_memory(memory_limit and memory_limit + SPARE_MEBIBYTES)
                trace = traceback.format_exc(limit=-20)
            relative = os.path.relpath(message.file, message.bundle_path)
            return processor.DagFileParsingResult(
                fileloc=message.file, serialized_dags=[], import_errors={relative: trace}
            )

        def parse(message: Any, log: Any) -> Any:
            def parse_companion(path: str, writer: socket.socket) -> bytes:
                result = parse_one(message.model_copy(update={"file": path}), log, writer)
                return result.model_dump_json().encode()  # type: ignore[no-any-return] # pydantic's

            for companion in companions:
                parse_in_a_fork(companion, parse_companion)
            return parse_one(message, log, writer)

        before()
        processor._parse_file = parse  # noqa: SLF001 - see above
        processor._parse_file_entrypoint()  # noqa: SLF001 - see above

    return run
