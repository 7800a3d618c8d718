"""Airflow's dag-processor, woken by events instead of its clock.

Run as `python -m windsock.runtime.start dag-processor` in place of `airflow dag-processor`. A
subclass of Airflow's own manager (measured with 3.3.2) adds to the stock behaviour:

- A *poke* on a unix socket makes it look at the snapshot store at once; Airflow's loop would
  otherwise sleep for up to a second, and list new files every 300 s.
- Only what a save affects is parsed again: the changed files, and those whose last parse opened
  a changed file (see `recorder`), many of which share a parser (see `companions`). A parse of an
  outdated version is ended and started anew.
- DAGs that a save does not affect point to the new snapshot at once, so their next run starts with
  today's code of whatever their tasks import when they run.
- A DAG id that vanished from a file that stays is deactivated right after the parse, not a
  minute later; a parser that timed out, crashed or called `sys.exit()` leaves an import error,
  not silence. A broken save does not stall the runs that started before it.
- What a burst of parses brings is stored in one transaction (see `results`), and the manager's
  housekeeping keeps the pace of an idle Airflow instead of running after each parse.
- Everything it did is told on the socket: `parsing`, `parsed`, `removed`, `settled`.

Where a future Airflow lacks one of the seams, it says so and the stock dag-processor runs: edits
are then found by its clock, and the socket is held by who says so (see `stock`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow.cli.commands import dag_processor_command
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager
from airflow.dag_processing.processor import DagFileParsingResult, DagFileProcessorProcess
from uuid6 import uuid7

from windsock.events import Parsed, Parsing, ProcessorState, References, Removed, Settled
from windsock.runtime.bundle import SnapshotDagBundle
from windsock.runtime.processor import database, stock
from windsock.runtime.processor.burst import Burst
from windsock.runtime.processor.channel import Channel
from windsock.runtime.processor.companions import Companion, Passenger, choose
from windsock.runtime.processor.exits import wake_at_exit
from windsock.runtime.processor.recorder import Recording, parse_entrypoint
from windsock.runtime.processor.results import Result, store
from windsock.runtime.store import changed_paths, current_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.callbacks.callback_requests import CallbackRequest
    from airflow.dag_processing.bundles.base import BaseDagBundle

log = structlog.get_logger("windsock")

SOCKET_VARIABLE = "WINDSOCK_DAG_PROCESSOR_SOCKET"
SOURCE_VARIABLE = "WINDSOCK_DAGS_FOLDER"
MEMORY_VARIABLE = "WINDSOCK_PARSE_MEMORY_MB"
FURTHER_VARIABLE = "WINDSOCK_FURTHER_FOLDERS"

# What this module overrides or calls of Airflow's private parts. See the module docstring.
SEAMS = (
    "prepare_process_context",
    "request_bundle_refresh",
    "handle_parsing_result",
    "persist_parsing_result",
    "_refresh_dag_bundles",
    "_find_files_in_bundle",
    "_collect_results",
    "_kill_timed_out_processors",
    "_create_process",
    "_add_files_to_queue",
    "_get_logger_for_dag_file",
    "fetch_callbacks",
    "claim_priority_files",
    "purge_inactive_dag_warnings",
)

HOUSEKEEPING_PERIOD = 0.9
"""Seconds between two looks for callbacks, requests and stale warnings. Airflow looks once in each
turn of its loop, so once a second at rest; in a burst of parses, where each turn ends with a parse,
the three transactions took a third of the manager's time (measured: 20 files)."""


PATIENCE = 1.0
"""Seconds after which a parse that saves keep overtaking is stored, as what its snapshot holds.
What is saved again and again, faster than it is parsed, would otherwise never be seen."""


class LiveDagFileProcessorManager(DagFileProcessorManager):
    """Airflow's manager, with a channel, a record of what each file uses, and feedback."""

    def prepare_process_context(self) -> None:
        """Open the channel on the fresh selector, before the first file is parsed."""
        super().prepare_process_context()
        self._recordings: dict[DagFileInfo, Recording] = {}
        self._companions: dict[DagFileInfo, Companion] = {}
        self._alone: set[str] = set()
        self._changed: set[str] = set()
        self._waiting_since: dict[str, float] = {}
        self._uses: dict[str, set[str]] = {}
        self._outcomes: dict[str, Parsed] = {}
        self._awaited: dict[str, str] = {}
        self._housekeeping_at: dict[str, float] = {}
        self._burst: Burst[Result] = Burst()
        self._handled: DagFileInfo | None = None
        self._overtaken = False
        self._started_at = time.monotonic()
        self._memory_limit = int(os.environ.get(MEMORY_VARIABLE) or 0)
        self._source = os.environ.get(SOURCE_VARIABLE) or ""
        self._further = set(os.environ.get(FURTHER_VARIABLE, "").split(os.pathsep)) - {""}
        self._channel = Channel(
            Path(os.environ[SOCKET_VARIABLE]),
            greeting=self._state,
            requests={"poke": self._look_at_once, "references": self._references},
            selector=self.selector,
        )

    # --- requests -----------------------------------------------------------------------------

    def _look_at_once(self) -> None:
        self.request_bundle_refresh(bundle.name for bundle in self._snapshot_bundles())
        self._started_at = time.monotonic()

    def _references(self) -> References:
        names = [bundle.name for bundle in self._snapshot_bundles()]
        return References(snapshots=tuple(sorted(database.references(names))))

    def _state(self) -> ProcessorState:
        return ProcessorState(
            snapshot=self._parsed_snapshot(),
            awaited=tuple(sorted(self._awaited)),
            files=tuple(self._outcomes.values()),
        )

    def _snapshot_bundles(self) -> list[SnapshotDagBundle]:
        return [bundle for bundle in self._dag_bundles if isinstance(bundle, SnapshotDagBundle)]

    def _bundle(self, name: str) -> SnapshotDagBundle:
        return next(bundle for bundle in self._snapshot_bundles() if bundle.name == name)

    def _is_ours(self, file: DagFileInfo) -> bool:
        return any(bundle.name == file.bundle_name for bundle in self._snapshot_bundles())

    def _parsed_snapshot(self) -> str | None:
        for bundle in self._snapshot_bundles():
            snapshot: str | None = self._bundle_versions.get(bundle.name)
            return snapshot
        return None

    def _find_files_in_bundle(self, bundle: BaseDagBundle) -> list[Path]:
        """The DAG files: what lies in further folders is there to be imported by them."""
        found: list[Path] = super()._find_files_in_bundle(bundle)
        if not isinstance(bundle, SnapshotDagBundle):
            return found
        return [path for path in found if path.parts[0] not in self._further]

    # --- a new snapshot -----------------------------------------------------------------------

    def _refresh_dag_bundles(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        poked = bool(self._force_refresh_bundles)
        self._look_at_stores()
        before = dict(self._bundle_versions)
        super()._refresh_dag_bundles(known_files)
        for bundle in self._snapshot_bundles():
            new = self._bundle_versions.get(bundle.name)
            if new is not None and new != before.get(bundle.name):
                self._turn_to(bundle, before.get(bundle.name), new, known_files[bundle.name])
            elif poked and new is not None:
                self._settle_if_done()

    def _look_at_stores(self) -> None:
        """Turn to a new snapshot also if nobody poked: the agent may run beside another replica.

        A link is read in each turn of the loop, so at least once a second.
        """
        for bundle in self._snapshot_bundles():
            if bundle.name not in self._bundle_versions:
                continue  # Airflow is about to look for the first time.
            known = self._bundle_versions[bundle.name]
            if current_snapshot(bundle.store) not in (known, None):
                self.request_bundle_refresh(bundle.name)

    def _turn_to(
        self, bundle: SnapshotDagBundle, old: str | None, new: str, files: set[DagFileInfo]
    ) -> None:
        """Parse again what differs between two snapshots, and nothing else."""
        self._store_results()  # They belong to the snapshot before.
        present = {str(file.rel_path): file for file in files}
        changed, others = self._affected(bundle, old, new, present)
        self._changed.update(changed)
        affected = changed + others
        self._renew_queue(bundle.name, present)
        owners = self._other_owners(self._forget_deleted(present, new))
        affected += [name for name in owners if name not in affected]
        self._awaited = {name: new for name in self._awaited if name in present}
        self._awaited.update(dict.fromkeys(affected, new))
        self._channel.broadcast(Parsing(snapshot=new, files=tuple(affected)))
        now = time.monotonic()
        for name in affected:
            self._waiting_since.setdefault(name, now)
            self._end_outdated_parse(present[name])
        self._add_files_to_queue([present[name] for name in reversed(affected)], mode="frontprio")
        if old is not None:
            database.point_to(bundle.name, new, except_files=affected)
        self._settle_if_done()

    def _affected(
        self, bundle: SnapshotDagBundle, old: str | None, new: str, present: dict[str, DagFileInfo]
    ) -> tuple[list[str], list[str]]:
        """The DAG files to parse for a new snapshot: those that changed, and their users."""
        try:
            changed = changed_paths(bundle.store, old, new) if old else set(present)
        except OSError:
            changed = set(present)  # The old manifest was collected: everything may differ.
        first = sorted(name for name in present if name in changed)
        # Who lists a folder is affected by all below it: a whole folder may have come or gone.
        changed |= {f"{parent.as_posix()}/" for name in changed for parent in Path(name).parents}
        others = sorted(
            name for name in present if name not in changed and self._needs_parse(name, changed)
        )
        return first, others

    def _needs_parse(self, name: str, changed: set[str]) -> bool:
        """Whether a file that did not change itself is affected all the same."""
        outcome = self._outcomes.get(name)
        if outcome is None or outcome.errors:
            return True  # Never parsed, or broken: what it lacks may just have arrived.
        return not changed.isdisjoint(self._uses.get(name, ()))

    def _renew_queue(self, bundle_name: str, present: dict[str, DagFileInfo]) -> None:
        """Let what is queued be read from the new snapshot: queue keys carry their old path."""
        renewed: dict[DagFileInfo, None] = {}
        for file in self._file_queue:
            if file.bundle_name == bundle_name and file.bundle_version is None:
                renewed[present.get(str(file.rel_path), file)] = None
            else:
                renewed[file] = None
        self._file_queue.clear()
        self._file_queue.update(renewed)

    def _forget_deleted(self, present: dict[str, DagFileInfo], snapshot: str) -> set[str]:
        """Tell which DAGs went with their files; returns their ids."""
        removed: set[str] = set()
        for name in [name for name in self._outcomes if name not in present]:
            gone = self._outcomes.pop(name)
            self._uses.pop(name, None)
            removed.update(gone.dags)
            self._tell_removed(name, sorted(gone.dags), snapshot)
        return removed

    def _tell_removed(self, file: str, dag_ids: list[str], snapshot: str) -> None:
        self._channel.broadcast(Removed(snapshot=snapshot, file=file, dags=tuple(dag_ids)))

    def _other_owners(self, dag_ids: Iterable[str]) -> list[str]:
        """The files that also define a DAG just deactivated: parsed again, it lives on."""
        gone = set(dag_ids)
        return [name for name, outcome in self._outcomes.items() if gone & outcome.dags.keys()]

    def _end_outdated_parse(self, file: DagFileInfo) -> None:
        """Kill a parse of the previous version; a running callback is left to finish."""
        self._companions.pop(file, None)  # What comes of it is not asked for any more.
        processor = self._processors.get(file)
        if processor is None or processor.had_callbacks:
            return
        # One that is young may end soon, and saves would overtake the next one as well. One that
        # has run for a while may hang, and what its author has just saved may be the cure.
        young = time.monotonic() - processor.start_time < PATIENCE
        if not (young and self._waits_too_long(file)):
            del self._processors[file]
            self._recordings.pop(file, None)
            for companion in self._held_up(processor):
                del self._companions[companion]
                self._queue(companion)
            # Airflow's own kill waits up to 5 s in the selector if the parser's sockets close just
            # before it can be reaped (3 of 24 saves, measured); nothing here needs its last words.
            with contextlib.suppress(ProcessLookupError):
                os.kill(processor.pid, signal.SIGKILL)
            processor._process.wait(timeout=5)  # noqa: SLF001 - Airflow offers no other way
            processor.close()

    # --- housekeeping -------------------------------------------------------------------------

    def _is_due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._housekeeping_at.get(what, -HOUSEKEEPING_PERIOD) < HOUSEKEEPING_PERIOD:
            return False
        self._housekeeping_at[what] = now
        return True

    def fetch_callbacks(self) -> list[CallbackRequest]:
        """Callbacks to run, looked for at the pace of an idle Airflow."""
        return super().fetch_callbacks() if self._is_due("callbacks") else []

    def claim_priority_files(self) -> list[DagFileInfo]:
        """Files that a person asked to be parsed again, looked for likewise."""
        return super().claim_priority_files() if self._is_due("requests") else []

    def purge_inactive_dag_warnings(self) -> None:
        """Remove the warnings of DAGs that are gone, likewise."""
        if self._is_due("warnings"):
            super().purge_inactive_dag_warnings()

    # --- one parse ----------------------------------------------------------------------------

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        if not self._is_ours(dag_file) or dag_file in self._callback_to_execute:
            return super()._create_process(dag_file)
        recording = Recording()
        self._recordings[dag_file] = recording
        companions = {file: Recording() for file in self._take_companions(dag_file)}
        entrypoint = parse_entrypoint(
            bundle=str(dag_file.bundle_path),
            writer=recording.writer,
            memory_limit=self._memory_limit,
            before=self._channel.close,
            companions=[
                Passenger(path=str(file.absolute_path), writer=its_own.writer)
                for file, its_own in companions.items()
            ],
        )
        logger, filehandle = self._get_logger_for_dag_file(dag_file)
        process = DagFileProcessorProcess.start(
            id=uuid7(),
            target=entrypoint,
            path=dag_file.absolute_path,
            bundle_path=dag_file.bundle_path,
            bundle_name=dag_file.bundle_name,
            dag_file_rel_path=str(dag_file.rel_path),
            callbacks=[],
            selector=self.selector,
            logger=logger,
            logger_filehandle=filehandle,
            client=self.client,
        )
        recording.watch(self.selector)
        wake_at_exit(self.selector, process.pid)
        for file, its_own in companions.items():
            its_own.watch(self.selector)
            self._companions[file] = Companion(parser=process, recording=its_own)
        return process

    def _take_companions(self, dag_file: DagFileInfo) -> list[DagFileInfo]:
        """The files of the queue that go along with the parser of this one."""
        waiting = {
            file: self._outcomes[str(file.rel_path)].seconds
            for file in self._file_queue
            if file.bundle_path == dag_file.bundle_path and self._may_go_along(file)
        }
        free = self._parallelism - len(self._processors)
        taken = list(waiting)[: choose(waiting.values(), parsers=free)]
        for file in taken:
            del self._file_queue[file]
        return taken

    def _may_go_along(self, file: DagFileInfo) -> bool:
        """Whether a file is known to be sound, and nothing else is asked of it.

        What its author has just saved may hang, and others would wait for it.
        """
        name = str(file.rel_path)
        outcome = self._outcomes.get(name)
        if outcome is None or outcome.errors or name in self._alone | self._changed:
            return False
        busy = file in self._processors or file in self._callback_to_execute
        return not busy and self._is_ours(file)

    def handle_parsing_result(
        self, file: DagFileInfo, proc: DagFileProcessorProcess, **session: Any
    ) -> None:
        """Persist one result as Airflow does, then tell what came of it."""
        recording = self._recordings.pop(file, None)
        if recording is None:
            super().handle_parsing_result(file, proc, **session)
            self._queue_if_awaited(file)
            return
        recording.read()
        name = str(file.rel_path)
        uses = recording.paths | {name}
        overtaken = self._is_outdated(file, uses)
        if overtaken and not self._waits_too_long(file):
            self._queue_if_awaited(file, force=True)
            return
        if proc.parsing_result is None and self._held_up(proc):
            self._parse_alone(file)
            return
        if proc.parsing_result is None:
            proc.parsing_result = _failure(file, _describe_exit(proc, self._memory_limit))
        self._show_source_paths(file, proc.parsing_result)
        # A parse that broke may not have come to its imports: keep what is known of them.
        broken = bool(proc.parsing_result.import_errors)
        self._uses[name] = uses | self._uses.get(name, set()) if broken else uses
        self._handled, self._overtaken = file, overtaken
        try:
            super().handle_parsing_result(file, proc, **session)
        finally:
            self._handled, self._overtaken = None, False

    def persist_parsing_result(self, **result: Any) -> None:
        """Put off what `handle_parsing_result` wants stored, while more files wait."""
        if self._handled is None:
            super().persist_parsing_result(**result)
            return
        self._burst.add(
            Result(
                file=self._handled,
                version=_snapshot_of(self._handled)
                if self._overtaken
                else result["bundle_version"],
                parsed=result["parsing_result"],
                seconds=result["run_duration"],
                overtaken=self._overtaken,
            )
        )

    def _collect_results(self) -> None:
        super()._collect_results()
        self._collect_companions()
        if self._burst.is_due(more_to_come=bool(self._file_queue or self._companions)):
            self._store_results()
            self._settle_if_done()

    def _collect_companions(self) -> None:
        """Take in what came of companions, and parse alone what did not come back."""
        parsers = {id(process) for process in self._processors.values()}
        for file, companion in list(self._companions.items()):
            companion.recording.read()
            if companion.recording.result is not None:
                del self._companions[file]
                companion.take(companion.recording.result, DagFileParsingResult)
                self._recordings[file] = companion.recording
                self.handle_parsing_result(file, companion)
            elif id(companion.parser) not in parsers:
                del self._companions[file]
                self._parse_alone(file)

    def _held_up(self, processor: DagFileProcessorProcess) -> list[DagFileInfo]:
        """The companions that a parser has not come back with: it never came to its own file."""
        found = []
        for file, companion in self._companions.items():
            if companion.parser is processor:
                companion.recording.read()
                if companion.recording.result is None:
                    found.append(file)
        return found

    def _parse_alone(self, file: DagFileInfo) -> None:
        """Parse a file again in a parser of its own, now and from now on."""
        self._alone.add(str(file.rel_path))
        self._queue(file)

    def _store_results(self) -> None:
        for result, errors in store(self._still_true(self._burst.take())):
            self._finish(result, errors)

    def _still_true(self, results: Sequence[Result]) -> list[Result]:
        """The results that no save has overtaken while they were held back.

        The others are parsed again. Stored, they would bring the old version back over the new one
        that another replica may have settled meanwhile.
        """
        true = []
        for result in results:
            uses = self._uses.get(result.name, {result.name})
            if not result.overtaken and self._is_outdated(result.file, uses):
                self._queue_if_there(result.file)
            else:
                true.append(result)
        return true

    def _is_outdated(self, file: DagFileInfo, uses: set[str]) -> bool:
        """Whether a save during the parse changed something that this parse used."""
        bundle = self._bundle(file.bundle_name)
        parsed = _snapshot_of(file)
        # Of the store, not of our last refresh: another replica may have stored what is newer.
        current = current_snapshot(bundle.store)
        if current is None or parsed == current:
            return False
        try:
            return not changed_paths(bundle.store, parsed, current).isdisjoint(uses)
        except OSError:
            return True

    def _waits_too_long(self, file: DagFileInfo) -> bool:
        """Whether saves have overtaken each parse of a file for a while."""
        since = self._waiting_since.get(str(file.rel_path))
        return since is not None and time.monotonic() - since > PATIENCE

    def _queue_if_awaited(self, file: DagFileInfo, *, force: bool = False) -> None:
        """Parse again once this process is gone; `_start_new_processes` drops it until then."""
        if force or str(file.rel_path) in self._awaited:
            self._queue(file)

    def _queue_if_there(self, file: DagFileInfo) -> None:
        """Parse again, unless the save that overtook it has deleted it."""
        if (self._bundle(file.bundle_name).path / file.rel_path).exists():
            self._queue(file)

    def _queue(self, file: DagFileInfo) -> None:
        """Parse a file as the snapshot that is current now has it, before all others."""
        self._queue_named(file.bundle_name, file.rel_path)

    def _queue_named(self, bundle_name: str, path: Path) -> None:
        file = DagFileInfo(
            rel_path=path, bundle_name=bundle_name, bundle_path=self._bundle(bundle_name).path
        )
        self._add_files_to_queue([file], mode="frontprio")

    def _show_source_paths(self, file: DagFileInfo, result: DagFileParsingResult) -> None:
        """Name the user's own file in tracebacks, not its copy in the snapshot."""
        if self._source and result.import_errors:
            result.import_errors = {
                path: trace.replace(str(file.bundle_path), self._source)
                for path, trace in result.import_errors.items()
            }

    def _kill_timed_out_processors(self) -> None:
        running = dict(self._processors)
        super()._kill_timed_out_processors()
        for file, process in running.items():
            if file in self._processors or file not in self._recordings:
                continue
            recording = self._recordings.pop(file)
            if self._held_up(process):
                self._parse_alone(file)
                continue
            recording.read()
            self._uses.setdefault(str(file.rel_path), set()).update(recording.paths)
            result = _failure(
                file,
                f"the import did not end within {self.processor_timeout:.0f} s, "
                "so its parser was killed ([dag_processor] dag_file_processor_timeout)",
            )
            self._burst.add(
                Result(
                    file=file,
                    version=self._bundle_versions[file.bundle_name],
                    parsed=result,
                    seconds=time.monotonic() - process.start_time,
                )
            )

    def _finish(self, result: Result, errors: dict[str, str]) -> None:
        """Tell the outcome of a file."""
        name, bundle, snapshot = result.name, result.file.bundle_name, str(result.version)
        dags = {dag.dag_id: len(dag.data["dag"]["tasks"]) for dag in result.parsed.serialized_dags}
        if errors:
            database.keep_running(bundle, name)
        else:
            vanished = database.deactivate_vanished(bundle, name, set(dags))
            if vanished:
                self._tell_removed(name, vanished, snapshot)
                self._outcomes.pop(name, None)
                self._await_owners(bundle, self._other_owners(vanished), snapshot)
        outcome = Parsed(
            snapshot=snapshot,
            file=name,
            dags=dags,
            errors=errors,
            seconds=round(result.seconds, 4),
            used=tuple(sorted(self._uses.get(name, ()))),
        )
        self._outcomes[name] = outcome
        if result.overtaken:
            self._waiting_since[name] = time.monotonic()
            self._queue_if_there(result.file)
        else:
            self._waiting_since.pop(name, None)
            self._changed.discard(name)
            self._awaited.pop(name, None)
        self._channel.broadcast(outcome)

    def _await_owners(self, bundle: str, owners: Sequence[str], snapshot: str) -> None:
        """Parse the other files that define a DAG again: one of them owns it now."""
        self._awaited.update(dict.fromkeys(owners, snapshot))
        for owner in owners:
            self._queue_named(bundle, Path(owner))
        if owners:
            self._channel.broadcast(Parsing(snapshot=snapshot, files=tuple(owners)))

    def _settle_if_done(self) -> None:
        snapshot = self._parsed_snapshot()
        if not self._awaited and snapshot is not None:
            seconds = round(time.monotonic() - self._started_at, 4)
            self._channel.broadcast(Settled(snapshot=snapshot, seconds=seconds))


def _snapshot_of(file: DagFileInfo) -> str:
    """The snapshot that a file is read from: its bundle's path is the folder of one."""
    return Path(str(file.bundle_path)).name


def _failure(file: DagFileInfo, reason: str) -> DagFileParsingResult:
    name = str(file.rel_path)
    return DagFileParsingResult(
        fileloc=str(file.absolute_path),
        serialized_dags=[],
        import_errors={name: f"{name}: {reason}"},
    )


AIRFLOW_FAILED = 124
"""The exit code of a parser in which Airflow's own code failed, after the import or around it.

Source: `WatchedSubprocess.start` in airflow/sdk/execution_time/supervisor.py. A file that has used
up the memory leaves none to tell its `MemoryError` with.
"""


def _describe_exit(process: DagFileProcessorProcess, memory_limit: int) -> str:
    code = process._exit_code  # noqa: SLF001 - Airflow shows it nowhere else
    if code is not None and code < 0:
        ended = f"was killed by {signal.Signals(-code).name}"
        cause = " (out of memory?)" if -code == signal.SIGKILL else ""
    else:
        ended, cause = f"ended with exit code {code}", ""
        if code == AIRFLOW_FAILED and memory_limit:
            cause = f" (out of memory? The limit is {memory_limit} MiB: parse.memory_limit_mb)"
    return f"the parser {ended} before the import was done{cause}"


def _references() -> list[str]:
    """The snapshots that something may still run, of all bundles that serve some."""
    bundles = DagBundlesManager().get_all_dag_bundles()
    names = [bundle.name for bundle in bundles if isinstance(bundle, SnapshotDagBundle)]
    return sorted(database.references(names))


def main(arguments: Sequence[str]) -> None:
    """Run the dag-processor: live where this Airflow has the seams, else stock.

    Args:
        arguments: As for `airflow dag-processor`.
    """
    path = os.environ.get(SOCKET_VARIABLE)
    missing = [seam for seam in SEAMS if not hasattr(DagFileProcessorManager, seam)]
    if missing:
        log.warning(
            "This Airflow has no seam for live parsing; the stock dag-processor runs, and finds "
            "edits by its clock.",
            missing=missing,
        )
        os.environ.update(stock.clock(os.environ))
        if path:
            stock.channel(Path(path), missing=missing, references=_references).start(
                "windsock-stock"
            )
    elif path:
        dag_processor_command.DagFileProcessorManager = LiveDagFileProcessorManager
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - parses sys.argv when it runs

    sys.argv = ["airflow", "dag-processor", *arguments]
    airflow()
