"""What runs in a parser: the process that Airflow forks to parse a DAG file.

A parser may get further files. It parses each in a fork of itself, one after the other, before its
own file. So no file sees anything of another one, and the dag-processor, which is large and forks
slowly, forks once for all of them. When they take long it leaves the rest: those wait in the queue
again, where another parser may take them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.runtime.folder_modules import use_folder
from windsock.runtime.params import check_param_schemas
from windsock.runtime.processor.outside import installed_folders
from windsock.runtime.processor.recorder import record_settings, record_uses
from windsock.runtime.processor.texts import storable, unstorable
from windsock.runtime.read_only import refuse_writes
from windsock.runtime.zips import under_one_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.runtime.processor.recorder import Recording

MEBIBYTE = 1024 * 1024
SPARE_MEBIBYTES = 512
"""What a parser may use beyond its limit to report that it has reached it."""

LONGEST_GROUP = 2.0
"""How long a parser goes on with the files that it has taken along; the last one may exceed it."""

PR_SET_PDEATHSIG = 1
"""Source: <linux/prctl.h>."""


def entrypoint(
    *,
    bundle: str,
    recording: Recording,
    others: Mapping[str, Recording],
    memory_limit: int,
    before: Callable[[], None],
    strict: bool = False,
) -> Callable[[], None]:
    """What the forked parser runs instead of Airflow's own entry point, which it wraps.

    A DAG file that calls `sys.exit()` or uses up the memory gets an import error. Airflow's own
    parser would end without a word.

    Args:
        bundle: The real path of the snapshot that is parsed.
        recording: Of the parser's own file.
        others: Path → recording, of the files to parse before it.
        memory_limit: In MiB; 0 for none.
        before: Called first: closes what the fork inherited and must not use.
        strict: Whether an exception that Airflow lets through ends the parser, without a result.
    """
    installed_folders()

    def run() -> None:
        from airflow.dag_processing import processor  # noqa: PLC0415 - only Airflow has it
        from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - as above

        original = processor._parse_file  # noqa: SLF001 - see `windsock.runtime.processor`

        def parse_one(message: Any, log: Any, recording: Recording) -> Any:
            limit_memory(memory_limit)
            refuse_writes(Path(bundle).parent)
            record_uses(bundle, recording)
            use_folder(bundle)
            record_settings(task_runner.SUPERVISOR_COMMS, recording)
            relative = os.path.relpath(message.file, message.bundle_path)
            try:
                return sendable(original(message, log), relative)
            except (SystemExit, Exception) as error:
                if strict:
                    raise
                limit_memory(memory_limit and memory_limit + SPARE_MEBIBYTES)
                trace = storable("".join(traceback.format_exception(_cause(error), limit=-1000)))
            return processor.DagFileParsingResult(
                fileloc=message.file, serialized_dags=[], import_errors={relative: trace}
            )

        def parse(message: Any, log: Any) -> Any:
            begun = time.monotonic()
            for path, its_recording in others.items():
                if time.monotonic() - begun > LONGEST_GROUP:
                    break

                def parse_other(path: str = path, recording: Recording = its_recording) -> None:
                    started = time.monotonic()
                    result = parse_one(message.model_copy(update={"file": path}), log, recording)
                    json = result.model_dump_json().encode()
                    recording.finish(time.monotonic() - started, json)

                run_in_a_fork(parse_other)
            return parse_one(message, log, recording)

        before()
        check_param_schemas()
        processor._parse_file = parse  # noqa: SLF001 - as above
        processor._parse_file_entrypoint()  # noqa: SLF001 - as above

    return run


def callback_entrypoint(*, bundle: str, before: Callable[[], None]) -> Callable[[], None]:
    """What a process runs that was forked for callbacks, around Airflow's own entry point.

    Args:
        bundle: The real path of the snapshot that their run is pinned to.
        before: As for `entrypoint`.
    """

    def run() -> None:
        from airflow.dag_processing import processor  # noqa: PLC0415 - only Airflow has it

        before()
        refuse_writes(Path(bundle).parent)
        use_folder(bundle)
        processor._parse_file_entrypoint()  # noqa: SLF001 - see `windsock.runtime.processor`

    return run


def _cause(error: BaseException) -> BaseException:
    """What an author wants to know: Airflow cannot log half a character (a lone surrogate)."""
    if isinstance(error, UnicodeEncodeError) and error.__context__ is not None:
        return error.__context__
    return error


def sendable(result: Any, name: str) -> Any:
    """A result without what cannot be sent to the dag-processor, or stored by it.

    Args:
        result: Airflow's own.
        name: The DAG file's path in its bundle.
    """
    told = under_one_name(result.import_errors or {}, name)
    errors = {path: storable(trace) for path, trace in told.items()}
    sound = []
    for dag in result.serialized_dags:
        if place := unstorable(dag.data):
            reason = f"DAG {dag.dag_id!r} cannot be stored: {place} holds half a character"
            errors[dag.relative_fileloc] = f"{reason} (a lone surrogate)"
        else:
            sound.append(dag)
    return result.model_copy(update={"serialized_dags": sound, "import_errors": errors})


def limit_memory(mebibytes: int) -> None:
    """Cap the address space of this process, so that a DAG file cannot use up the machine's memory.

    Args:
        mebibytes: The limit; 0 for none.
    """
    if mebibytes > 0:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = mebibytes * MEBIBYTE
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def run_in_a_fork(work: Callable[[], None]) -> None:
    """Do something in a fork of this process, and wait for its end. Linux only."""
    parser = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    code = 1
    try:
        _end_with(parser)
        work()
        code = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _end_with(parser: int) -> None:
    """End this process with its parser: a file may hang, and its parser be killed for that."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parser:
        os._exit(1)  # It has just ended.
