"""Airflow's dag-processor, woken by events instead of its clock.

Run as `python -m windsock.runtime.start dag-processor` in place of `airflow dag-processor`. A
subclass of Airflow's own manager adds to the stock behaviour:

- A *poke* on a unix socket makes it look at the snapshot store at once. Airflow's loop would
  otherwise sleep for up to a second, and list new files every 300 s.
- It parses again only what a save affects: `ParsePlan` decides that. A parse of an outdated
  version is ended and started anew.
- DAGs that a save does not affect point to the new snapshot at once, so their next run starts with
  today's code of whatever their tasks import when they run.
- A DAG that vanished from a file that stays is deactivated right after the parse, not a minute
  later. A parser that timed out, crashed or called `sys.exit()` becomes an import error. A broken
  save does not stall the runs that started before it.
- It reports everything on the socket, as the records of `windsock.events`.

Where a future Airflow lacks one of the `SEAMS`, or a planted file does not come through (see
`planted`), the stock dag-processor runs and finds edits by its clock (see `stock`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from airflow.cli.commands import dag_processor_command
from airflow.configuration import conf
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager, DagFileStat
from airflow.dag_processing.processor import DagFileParsingResult, DagFileProcessorProcess
from airflow.exceptions import AirflowConfigException
from sqlalchemy.exc import DBAPIError
from uuid6 import uuid7

from windsock.events import Note, Parsed, Parsing, ProcessorState, References, Removed
from windsock.runtime.bundle import SnapshotDagBundle
from windsock.runtime.child_end import wake_when_it_ends
from windsock.runtime.processor import database, stock
from windsock.runtime.processor.channel import Channel
from windsock.runtime.processor.direct import DirectClient
from windsock.runtime.processor.folder_problems import FolderProblems
from windsock.runtime.processor.listing import DagFiles, Listing, missing_rules, names_inside
from windsock.runtime.processor.parser import callback_entrypoint, entrypoint
from windsock.runtime.processor.plan import ParsePlan
from windsock.runtime.processor.planted import STOCK_VARIABLE, PlantedFile, become_stock
from windsock.runtime.processor.recorder import Notes, Recording
from windsock.runtime.processor.remarks import Remarks
from windsock.runtime.processor.results import Result, store
from windsock.runtime.processor.texts import describe
from windsock.runtime.signals import signal_name
from windsock.runtime.store import changed_paths, current_snapshot, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.callbacks.callback_requests import CallbackRequest
    from airflow.dag_processing.bundles.base import BaseDagBundle

log = structlog.get_logger("windsock")

SOCKET_VARIABLE = "WINDSOCK_DAG_PROCESSOR_SOCKET"
SOURCE_VARIABLE = "WINDSOCK_DAGS_FOLDER"
"""The author's DAG folder, or a file that has its path: then the folder may become another one."""
MEMORY_VARIABLE = "WINDSOCK_PARSE_MEMORY_MB"
FURTHER_VARIABLE = "WINDSOCK_FURTHER_FOLDERS"

SEAMS = (
    "prepare_bundles",
    "request_bundle_refresh",
    "handle_parsing_result",
    "_collect_results",
    "_start_new_processes",
    "fetch_callbacks",
    "prepare_callback_bundle",
    "claim_priority_files",
    "purge_inactive_dag_warnings",
    "deactivate_deleted_dags",
    "clear_orphaned_import_errors",
    "prepare_file_queue",
    "_add_new_files_to_queue",
    "_refresh_dag_bundles",
    "_find_files_in_bundle",
    "_get_observed_filelocs",
    "handle_removed_files",
    "_run_parsing_loop",
    "_service_processor_sockets",
    "_kill_timed_out_processors",
    "_create_process",
    "_add_files_to_queue",
    "_get_logger_for_dag_file",
    "_resort_file_queue",
)
"""The methods of Airflow's manager that this module overrides or calls."""

YOUNG_SECONDS = 1.0
"""How long a parse runs before it is taken for one that may hang."""

RECOVERIES, RECOVERY_SECONDS = 3, 60.0
"""More errors than that in so many seconds, and the dag-processor ends after all."""

COLLECT_SECONDS = 2.0
"""How long what parsers have sent is read before one of them is taken for one that hangs."""

STORED_TOGETHER, LONGEST_UNSTORED = 25, 2.0
"""While many files wait, so many results are stored in one transaction, but after so many seconds
those that there are. A result alone takes 30 ms of CPU; of 25 each takes 15."""

UNFINISHED = frozenset({"it did not come to its end"})
"""The reason to parse a file again by the clock, although it read nothing outside the bundle."""

LOST_SECONDS = 300.0
"""How often, at a save, the DAGs of deleted files are looked for although no file is gone."""

HOUSEKEEPING_SECONDS = 0.9
"""How often Airflow's housekeeping runs: each second, as in a loop that no save wakes.

Airflow asks the database three times in each round of its loop. A save causes several rounds, and
would wait for the answers.
"""


class ParserNotStarted(Exception):
    """Arguments: the file, and the exception that its process could not be started for."""


_path = lru_cache(maxsize=2**16)(Path)
"""The same objects at each save, whose hashes Python remembers."""


class LiveDagFileProcessorManager(DagFileProcessorManager):
    """Airflow's manager, with a plan, a socket, and events."""

    planted: ClassVar[PlantedFile]

    def prepare_bundles(self) -> None:
        """Find windsock's bundle and open the socket, before the first file is parsed.

        Raises:
            AirflowConfigException: Airflow has no such bundle.
        """
        super().prepare_bundles()
        self._bundle = _snapshot_bundle(self._dag_bundles)
        self._plan = ParsePlan(self._bundle.store)
        self._recordings: dict[DagFileInfo, dict[DagFileInfo, Recording]] = {}
        self._housekeeping_at: dict[str, float] = {}
        self._unstored: list[tuple[Result, Notes]] = []
        self._postponed: set[DagFileInfo] = set()
        self._listed: set[DagFileInfo] = set()
        self._lost = True
        self._stored_at = 0.0
        self._memory_limit = int(os.environ.get(MEMORY_VARIABLE) or 0)
        self._further = set(os.environ.get(FURTHER_VARIABLE, "").split(os.pathsep)) - {""}
        self._dag_files = DagFiles(
            syntax=conf.get("core", "dag_ignore_file_syntax"),
            safe_mode=self.dag_discovery_safe_mode,
        )
        self._listing = Listing()
        self.planted.parsers = lambda: [each.pid for each in self._processors.values()]
        self._direct = DirectClient(lambda: self.client)
        self._problems = FolderProblems(self._bundle.name)
        self._remarks = Remarks()
        self._channel = Channel(
            Path(os.environ[SOCKET_VARIABLE]),
            greeting=self._state,
            requests={
                "poke": self._look_at_once,
                "references": self._references,
                "settings": self._parse_readers,
            },
            selector=self.selector,
        )
        self.planted.watch()  # Now: Airflow may have waited for the database.

    def _state(self) -> ProcessorState:
        state = self._plan.state()
        problems = self._problems.told.values()
        return replace(state, files=(*state.files, *problems), warnings=self._remarks.told)

    # --- what must not end the loop ------------------------------------------------------------

    def _run_parsing_loop(self) -> Any:
        """Go on after an exception that no file is known for; too many in a minute end it."""
        recent: deque[float] = deque(maxlen=RECOVERIES)
        while True:
            try:
                return super()._run_parsing_loop()
            except Exception as error:
                if isinstance(error, DBAPIError):
                    raise  # Without a database there is nothing to do.
                if len(recent) == RECOVERIES and time.monotonic() - recent[0] < RECOVERY_SECONDS:
                    raise
                recent.append(time.monotonic())
                log.exception("The loop of the dag-processor goes on after an error.")
                told = f"the dag-processor met an error, and goes on: {describe(error)}"
                self._channel.broadcast(Note(message=f"{told}; `invoke logs dag-processor` has it"))
                self._bundle_versions.pop(self._bundle.name, None)  # So all files are found anew.
                self.request_bundle_refresh(self._bundle.name)

    def _service_processor_sockets(self, timeout: float | None = 1.0) -> None:
        """Serve each socket; one that sends what Airflow cannot read is closed."""
        for key, _ in self.selector.select(timeout=timeout):
            handler, on_close = key.data
            peer: Any = key.fileobj
            if _is_closed(peer):  # By what was served just before.
                continue
            try:
                goes_on = handler(peer)
            except (BrokenPipeError, ConnectionResetError):
                goes_on = False
            except Exception:
                log.exception("A parser has sent what Airflow cannot read.")
                goes_on = False
            if not goes_on:
                on_close(peer)
                peer.close()

    def _start_new_processes(self) -> Any:
        """Start parsers; a file whose parser cannot be started has an import error.

        What is of another bundle, and callbacks, are tried again.
        """
        while True:
            try:
                return super()._start_new_processes()
            except ParserNotStarted as failed:
                file, cause = failed.args
                if self._is_foreign(file) or file in self._callback_to_execute:
                    self._try_later(file, cause)
                else:
                    self._fail(file, "its parser could not be started", cause)

    def _try_later(self, file: DagFileInfo, cause: Exception) -> None:
        """Start a process again in a second: it may have callbacks, which nobody else would run."""
        if file in self._postponed:
            return
        self._postponed.add(file)
        log.warning("A process cannot be started.", file=str(file.rel_path), exc_info=cause)
        what = "callbacks" if file in self._callback_to_execute else "the parser"
        self._channel.broadcast(
            Note(
                message=f"{what} of {file.rel_path} could not be started, "
                f"and will be as soon as possible: {describe(cause)}"
            )
        )

    @contextlib.contextmanager
    def _failing_alone(self, file: DagFileInfo) -> Iterator[None]:
        """Let what is raised while the result of a file is handled be the file's import error.

        Raises:
            DBAPIError: The database could not be asked.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, DBAPIError):
                raise
            self._fail(file, "what came of it could not be handled", error)

    def _fail(self, file: DagFileInfo, what: str, cause: Exception) -> None:
        """Let a file have an import error, instead of what its parser would have made of it."""
        log.warning("A file has no parse.", file=str(file.rel_path), reason=what, exc_info=cause)
        reason = f"{what}: {describe(cause)}"
        self._forget_recordings(file)
        if self._is_planted(file):
            self.planted.take(None, reason)
            return
        failed = self._failed(file, reason, seconds=0.0)
        self._unstored.append((failed, Notes(paths=set(), outside=UNFINISHED)))

    def _forget_recordings(self, file: DagFileInfo) -> None:
        """Close the recordings of a parser that does not run; what it took along waits again."""
        for other, recording in self._recordings.pop(file, {}).items():
            recording.close()
            if other != file:
                self._queue(other)

    # --- requests -----------------------------------------------------------------------------

    def _look_at_once(self, _: Mapping[str, Any]) -> None:
        self.request_bundle_refresh(self._bundle.name)
        self._plan.notice()

    def _references(self, _: Mapping[str, Any]) -> References:
        return References(snapshots=tuple(sorted(database.references([self._bundle.name]))))

    def _parse_readers(self, request: Mapping[str, Any]) -> None:
        """Parse the files that read variables and connections which have changed.

        The answer is `Parsing` with their names, to all; it comes also if no file reads them.
        """
        settings = tuple(str(name) for name in request["names"])
        # What is being parsed may have read them before they changed.
        parsed = {file for files in self._recordings.values() for file in files}
        running = {file for file in parsed if not self._is_planted(file)}
        running.update(result.file for result, _ in self._unstored)
        self._unstored.clear()
        for file in running:
            self._end_outdated_parse(file, at_once=True)
        affected = self._plan.readers(settings).union(str(file.rel_path) for file in running)
        files = [self._file(name) for name in sorted(affected)]
        names = tuple(str(file.rel_path) for file in files if file.absolute_path.exists())
        self._plan.parse_again(names)
        for name in names:
            self._queue(self._file(name))
        snapshot = self._plan.snapshot or ""
        self._channel.broadcast(Parsing(snapshot=snapshot, files=names, settings=settings))
        self._settle_if_done()

    # --- the bundle ---------------------------------------------------------------------------

    def _file(self, name: str) -> DagFileInfo:
        """A DAG file as the snapshot of the last refresh has it."""
        return DagFileInfo(
            rel_path=Path(name), bundle_name=self._bundle.name, bundle_path=self._bundle.path
        )

    def _find_files_in_bundle(self, bundle: BaseDagBundle) -> list[Path]:
        """The DAG files. DAG files import those of further folders; they hold no DAGs."""
        if bundle is not self._bundle:
            found: list[Path] = super()._find_files_in_bundle(bundle)
            return found
        folder = bundle.path

        def content_of(name: str) -> object | None:
            """What a path holds; None for a link, or what is not known."""
            entry = entry_of(bundle.store, folder.name, name)
            return entry if entry is not None and entry[0] == "file" else None

        self._listing = self._dag_files.search(folder, skip=self._further, identity=content_of)
        found = [_path(name) for name in self._listing.files]
        return [*found, self.planted.path] if self.planted.waits else found

    def _get_observed_filelocs(self, present: set[DagFileInfo]) -> set[str]:
        """What may have DAGs or import errors in the database: files, files in zips, problems."""
        if not self._lost:  # Nobody asks, see below.
            return set()
        observed: set[str] = set()
        for file in present:
            observed.update((str(file.rel_path), *names_inside(file.absolute_path, file.rel_path)))
        return observed | self._listing.problems.keys()

    # --- what would take longer with each file in the folder ----------------------------------

    def deactivate_deleted_dags(self, bundle_name: str, present: set[DagFileInfo]) -> None:
        """Deactivate the DAGs of files that are gone: Airflow looks at all that there are."""
        ours = bundle_name == self._bundle.name
        self._lost = (
            not (ours and self._listed and self._listed <= present)
            # A zip may have lost one inside it.
            or any(file.rel_path.suffix != ".py" for file in present)
            # Airflow only logs that it did not get the lock that it needs.
            or self._is_due("deleted", seconds=LOST_SECONDS)
        )
        if self._lost:
            super().deactivate_deleted_dags(bundle_name, present)
        if ours:
            self._listed = present

    def clear_orphaned_import_errors(
        self, bundle_name: str, observed_filelocs: set[str], **session: Any
    ) -> None:
        """Delete the errors of files that are gone. Airflow calls it right after the other one."""
        if self._lost:
            super().clear_orphaned_import_errors(bundle_name, observed_filelocs, **session)

    def handle_removed_files(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        """Forget files that are gone, if there are any. Airflow calls it after those two."""
        if self._lost or known_files.keys() != {self._bundle.name}:
            super().handle_removed_files(known_files)

    def prepare_file_queue(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        """Queue what is due by the clock. Airflow would look at every file, at each turn.

        A snapshot's files never change; of a save's files `_begin` takes care.
        """
        others = {name: files for name, files in known_files.items() if name != self._bundle.name}
        if others:
            super().prepare_file_queue(known_files=others)
        running = {file for files in self._recordings.values() for file in files}
        running.update(self._processors, (result.file for result, _ in self._unstored))
        planted = self._planted_in(known_files.get(self._bundle.name, set()))
        by_clock = self._plan.due(interval=self._file_process_interval)
        due = [*planted, *map(self._file, [*self._plan.awaited(), *by_clock])]
        waiting = [file for file in due if file not in running]
        if waiting:
            self._add_files_to_queue(waiting, mode="back")

    def _add_new_files_to_queue(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        """Queue the new files of other bundles.

        `_begin` queues ours. For Airflow, a file that another one's parser has taken along is new.
        """
        others = {name: files for name, files in known_files.items() if name != self._bundle.name}
        super()._add_new_files_to_queue(others)

    def _resort_file_queue(self) -> None:
        """Leave the queue as it is: the plan has put the most urgent file first."""

    # --- a new snapshot -----------------------------------------------------------------------

    def _refresh_dag_bundles(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        bundle = self._bundle
        before = self._bundle_versions.get(bundle.name)
        # The agent may run on another replica's machine, and poke only the dag-processor there.
        # Before the first refresh Airflow looks by itself.
        if before is not None and current_snapshot(bundle.store) not in (before, None):
            self.request_bundle_refresh(bundle.name)
        poked = bundle.name in self._force_refresh_bundles
        super()._refresh_dag_bundles(known_files)
        # Airflow has ended the parsers of deleted files.
        for own in [each for each in self._recordings if each not in self._processors]:
            self._forget_recordings(own)
        if not self.planted.waits:
            known_files.get(bundle.name, set()).discard(self._file(str(self.planted.path)))
        snapshot = self._bundle_versions.get(bundle.name)
        if snapshot is not None and snapshot != before:
            self._begin(snapshot, before, known_files[bundle.name])
        elif poked:
            self._settle_if_done()

    def _begin(self, snapshot: str, before: str | None, files: set[DagFileInfo]) -> None:
        """Parse what a new snapshot affects, and nothing else."""
        present = {str(file.rel_path): file for file in files if not self._is_planted(file)}
        self._renew_queue(present)
        if before is not None:
            with contextlib.suppress(OSError):  # The old snapshot was collected.
                self._remarks.note_save(changed_paths(self._bundle.store, before, snapshot))
        work = self._plan.begin(snapshot, present)
        problems, healed = self._problems.take(self._named(self._listing.problems), snapshot)
        for name, dag_ids in (*work.removed.items(), *((each, ()) for each in healed)):
            self._channel.broadcast(Removed(snapshot=snapshot, file=name, dags=dag_ids))
        affected = (*(each.file for each in problems), *work.files)
        self._channel.broadcast(Parsing(snapshot=snapshot, files=affected))
        for problem in problems:
            self._channel.broadcast(problem)
        for name in work.files:
            self._end_outdated_parse(present[name])
        self._add_files_to_queue([present[name] for name in reversed(work.files)], mode="frontprio")
        # First: it has to come through in time, however many files there are.
        self._add_files_to_queue(self._planted_in(files), mode="frontprio")
        self._start_new_processes()  # They parse while we wait for the database.
        if before is not None:
            database.point_to(self._bundle.name, snapshot, except_files=work.files)
        self._settle_if_done()

    def _renew_queue(self, present: dict[str, DagFileInfo]) -> None:
        """Let the files that wait be read from the new snapshot: the queue has their old paths."""
        renewed: dict[DagFileInfo, None] = {}
        for file in self._file_queue:
            ours = file.bundle_name == self._bundle.name and file.bundle_version is None
            renewed[present.get(str(file.rel_path), file) if ours else file] = None
        self._file_queue.clear()
        self._file_queue.update(renewed)

    def _end_outdated_parse(self, file: DagFileInfo, *, at_once: bool = False) -> None:
        """Kill a parse of the previous version; a running callback may finish.

        Args:
            file: That is parsed.
            at_once: Kill it although saves have overtaken it before.
        """
        for own, recordings in self._recordings.items():
            if own != file and file in recordings:
                recordings.pop(file).close()
        processor = self._processors.get(file)
        if processor is None or processor.had_callbacks:
            return
        # A young one may end soon, and saves would overtake the next one as well. One that has run
        # for a while may hang, and what its author has just saved may be the cure.
        young = time.monotonic() - processor.start_time < YOUNG_SECONDS
        if not at_once and young and self._plan.is_starved(str(file.rel_path)):
            return
        del self._processors[file]
        self._forget_recordings(file)
        # Airflow's own kill waits up to 5 s in the selector if the parser's sockets close just
        # before it can be reaped (3 of 24 saves, measured); nothing needs its last words.
        with contextlib.suppress(ProcessLookupError):
            os.kill(processor.pid, signal.SIGKILL)
        processor._process.wait(timeout=5)  # noqa: SLF001 - Airflow offers no other way
        processor.close()

    # --- housekeeping -------------------------------------------------------------------------

    def _is_due(self, what: str, *, seconds: float = HOUSEKEEPING_SECONDS) -> bool:
        now = time.monotonic()
        if now - self._housekeeping_at.get(what, -seconds) < seconds:
            return False
        self._housekeeping_at[what] = now
        return True

    def fetch_callbacks(self) -> list[CallbackRequest]:
        """The callbacks to run; those whose process could not be started are tried again."""
        if not self._is_due("callbacks"):
            return []
        self._add_files_to_queue(list(self._postponed), mode="front")
        fetched: list[CallbackRequest] = super().fetch_callbacks()
        return fetched

    def prepare_callback_bundle(self, request: CallbackRequest) -> BaseDagBundle | None:
        """The bundle of a callback. Airflow would also initialize it, in this process.

        That prepares a process for what is in the snapshot: see `callback_entrypoint`.
        """
        if request.bundle_name != self._bundle.name or not request.bundle_version:
            prepared: BaseDagBundle | None = super().prepare_callback_bundle(request)
            return prepared
        version = request.bundle_version
        with contextlib.suppress(ValueError):  # It is no snapshot: the bundle was another one.
            bundle = DagBundlesManager().get_bundle(name=request.bundle_name, version=version)
            if bundle.path.is_dir():
                return bundle
        log.error("The snapshot of a callback was removed.", snapshot=version)
        return None

    def claim_priority_files(self) -> list[DagFileInfo]:
        """The files that somebody has asked Airflow to parse again."""
        return super().claim_priority_files() if self._is_due("requests") else []

    def purge_inactive_dag_warnings(self) -> None:
        """Delete the warnings of DAGs that are gone."""
        if self._is_due("warnings"):
            super().purge_inactive_dag_warnings()

    # --- a parse ------------------------------------------------------------------------------

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        callbacks = self._callback_to_execute.get(dag_file)
        try:
            if self._is_foreign(dag_file):
                process = super()._create_process(dag_file)
            elif callbacks:
                process = self._start_callbacks(dag_file)
            else:
                process = self._start_parser(dag_file)
        except Exception as error:
            if callbacks:  # They were taken for the process: the database has them no more.
                self._callback_to_execute[dag_file] = callbacks
            raise ParserNotStarted(dag_file, error) from error
        self._postponed.discard(dag_file)
        return process

    def _start_parser(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        others = [] if self._is_planted(dag_file) else self._take_along(dag_file)
        files = [*others, dag_file]
        recordings = self._recordings[dag_file] = {file: Recording() for file in files}
        target = entrypoint(
            bundle=str(dag_file.bundle_path),
            recording=recordings[dag_file],
            others={str(file.absolute_path): recordings[file] for file in files[:-1]},
            memory_limit=0 if self._is_planted(dag_file) else self._memory_limit,
            before=self._channel.close,
            strict=self._is_planted(dag_file),
        )
        process = self._start(dag_file, target=target, callbacks=[], client=self._direct)
        wake_when_it_ends(self.selector, process.pid)
        return process

    def _start_callbacks(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        target = callback_entrypoint(bundle=str(dag_file.bundle_path), before=self._channel.close)
        callbacks = self._callback_to_execute.pop(dag_file)
        return self._start(dag_file, target=target, callbacks=callbacks, client=self.client)

    def _start(
        self,
        dag_file: DagFileInfo,
        *,
        target: Callable[[], None],
        callbacks: list[CallbackRequest],
        client: Any,
    ) -> DagFileProcessorProcess:
        logger, filehandle = self._get_logger_for_dag_file(dag_file)
        return DagFileProcessorProcess.start(
            id=uuid7(),
            target=target,
            path=dag_file.absolute_path,
            bundle_path=dag_file.bundle_path,
            bundle_name=dag_file.bundle_name,
            dag_file_rel_path=str(dag_file.rel_path),
            callbacks=callbacks,
            selector=self.selector,
            logger=logger,
            logger_filehandle=filehandle,
            subprocess_logs_to_stdout=conf.get("logging", "dag_processor_log_target") == "stdout",
            client=client,
        )

    def _planted_in(self, files: set[DagFileInfo]) -> list[DagFileInfo]:
        """The planted file, if Airflow has listed it, and nothing has come of it yet."""
        planted = self._file(str(self.planted.path))
        return [planted] if self.planted.waits and planted in files else []

    def _is_planted(self, file: DagFileInfo) -> bool:
        return bool(file.rel_path == self.planted.path)

    def _is_foreign(self, file: DagFileInfo) -> bool:
        """Whether a file belongs to a bundle that is not windsock's."""
        return bool(file.bundle_name != self._bundle.name)

    def _take_along(self, dag_file: DagFileInfo) -> list[DagFileInfo]:
        """Take the files from the queue that share the parser of this one."""
        waiting = {
            str(file.rel_path): file
            for file in self._file_queue
            if file.bundle_path == dag_file.bundle_path
            and file not in self._processors
            and file not in self._callback_to_execute
            and not self._is_foreign(file)
            and not self._is_planted(file)
        }
        parsers = self._parallelism - len(self._processors)
        files = [waiting[name] for name in self._plan.group(waiting, parsers=parsers)]
        for file in files:
            del self._file_queue[file]
        return files

    def handle_parsing_result(
        self, file: DagFileInfo, proc: DagFileProcessorProcess, **session: Any
    ) -> None:
        """Store what a parser made of its files, and report it."""
        if file in self._recordings:
            with self._failing_alone(file):
                reason = _describe_exit(proc, self._memory_limit)
                self._finish_parser(file, proc, proc.parsing_result, reason=reason)
            return
        try:
            super().handle_parsing_result(file, proc, **session)
        except Exception as error:
            if isinstance(error, DBAPIError):
                raise
            log.exception("What came of a process cannot be handled.", file=str(file.rel_path))
        if not self._is_foreign(file) and self._plan.is_awaited(str(file.rel_path)):
            self._queue(file)

    def _kill_timed_out_processors(self) -> None:
        now = time.monotonic()
        if any(
            now - each.start_time > self.processor_timeout for each in self._processors.values()
        ):
            # It may have ended long ago, while the results of others were stored.
            self._collect_what_waits(until=now + COLLECT_SECONDS)
        running = dict(self._processors)
        super()._kill_timed_out_processors()
        for file, processor in running.items():
            if file not in self._processors and file in self._recordings:
                reason = (
                    f"the import did not end within {self.processor_timeout:.0f} s, "
                    "so its parser was killed ([dag_processor] dag_file_processor_timeout)"
                )
                self._finish_parser(file, processor, None, reason=reason)
        if not self._may_store_more_later():
            self._store_results()

    def _collect_what_waits(self, *, until: float) -> None:
        while self.selector.select(timeout=0) and time.monotonic() < until:
            self._service_processor_sockets(timeout=0)
        self._collect_results()

    def _finish_parser(
        self,
        own: DagFileInfo,
        processor: DagFileProcessorProcess,
        parsed: DagFileParsingResult | None,
        *,
        reason: str,
    ) -> None:
        """Take what came of the files of a parser that has ended; it is stored soon.

        Args:
            own: The parser's own file.
            processor: The parser.
            parsed: What it made of its own file; None if nothing.
            reason: Why it made nothing of it.
        """
        if self._is_planted(own):
            self._forget_recordings(own)
            self.planted.take(parsed, reason)
            return
        parser_ended_early = False
        for file, recording in self._recordings.pop(own).items():
            with self._failing_alone(file):
                notes = recording.read()
                if notes.begun is None and (file != own or parser_ended_early):
                    self._queue(file)  # The parser had no time for it.
                    continue
                made = parsed if file == own else self._made(notes)
                if file == own:
                    seconds = time.monotonic() - (notes.begun or processor.start_time)
                else:
                    seconds = notes.seconds
                if not made and (file != own or parser_ended_early):
                    parser_ended_early = True
                    self._plan.parse_alone(str(file.rel_path))
                    self._queue(file)
                    continue
                result = self._failed(file, reason, seconds=seconds)
                if made:
                    result = replace(result, parsed=made)
                else:
                    notes = replace(notes, outside=UNFINISHED)
                self._unstored.append((result, notes))

    def _take_finished(self) -> None:
        """Take the results of files whose parser goes on: another one may hang there."""
        for own, recordings in self._recordings.items():
            for file in [each for each in recordings if each != own]:
                notes = recordings[file].peek()
                made = self._made(notes)
                if not made:
                    break
                recordings.pop(file).close()
                result = Result(
                    file=file, parsed=made, seconds=notes.seconds, version=self._version(file)
                )
                self._unstored.append((result, notes))

    def _made(self, notes: Notes) -> DagFileParsingResult | None:
        """The result of a file that shared a parser; None if there is none, or half of one."""
        with contextlib.suppress(Exception):  # Whatever a DAG file has written there.
            return notes.result and DagFileParsingResult.model_validate_json(notes.result)
        return None

    def _failed(self, file: DagFileInfo, reason: str, *, seconds: float) -> Result:
        """The result of a file that no parser has made anything of."""
        return Result(
            file=file,
            parsed=_failure(file, reason),
            seconds=seconds,
            version=self._version(file),
        )

    def _version(self, file: DagFileInfo) -> str:
        """What the parse of a file is stored with; after a recovery there is no last refresh."""
        return self._bundle_versions.get(file.bundle_name) or _snapshot_of(file)

    def _collect_results(self) -> None:
        """Start the next parsers, which work while the results of the last ones are stored."""
        super()._collect_results()
        self._take_finished()
        if self._unstored and not self._may_store_more_later():
            self._start_new_processes()
            self._store_results()

    def _may_store_more_later(self) -> bool:
        """Whether many files wait, and so few results that they are not worth a transaction.

        Nobody waits for one of many, but for a file that was just saved somebody does.
        """
        if len(self._file_queue) < STORED_TOGETHER or len(self._unstored) >= STORED_TOGETHER:
            return False
        if any(self._plan.is_just_saved(result.name) for result, _ in self._unstored):
            return False
        return time.monotonic() - self._stored_at < LONGEST_UNSTORED

    def _store_results(self) -> None:
        unstored, self._unstored = self._unstored, []
        self._stored_at = time.monotonic()
        checked: list[Result | None] = []
        for result, notes in unstored:
            with self._failing_alone(result.file):
                checked.append(self._checked(result, notes))
        self._store([result for result in checked if result is not None])

    def _checked(self, result: Result, notes: Notes) -> Result | None:
        """A result that may be stored; None if a save has overtaken it."""
        file, name, snapshot = result.file, result.name, _snapshot_of(result.file)
        if self._plan.is_outdated(name, snapshot, notes.paths):
            if not self._plan.is_starved(name):
                self._queue(file)
                return None
            result = replace(result, version=snapshot, overtaken=True)
        result.listed(())  # It raises what is wrong with the form of a DAG.
        errors = result.parsed.import_errors
        if errors:
            result.parsed.import_errors = self._named(errors, folder=str(file.bundle_path))
        self._plan.note_uses(name, notes.paths, complete=not errors)
        self._plan.note_settings(name, notes.settings, complete=not errors)
        self._plan.note_outside(name, notes.outside | notes.settings)
        return result

    def _named(self, errors: Mapping[str, str], folder: str = "") -> dict[str, str]:
        """Errors that name the author's own files, not their copies in the snapshot."""
        folder = folder or str(self._bundle.path)
        source = _source() or folder
        return {
            # Airflow names a file in a zip by its whole path.
            path.removeprefix(f"{folder}/"): trace.replace(folder, source)
            for path, trace in errors.items()
        }

    def _store(self, results: Sequence[Result]) -> None:
        if not results:
            return
        stored = list(store(results))
        bundle = self._bundle.name
        database.keep_running(bundle, [result.name for result, errors in stored if errors])
        vanished = database.deactivate_vanished(
            bundle, {result.name: set(result.dags) for result, errors in stored if not errors}
        )
        paused = database.paused([dag_id for result, _ in stored for dag_id in result.dags])
        for result, errors in stored:
            with self._failing_alone(result.file):
                if result.name in vanished:
                    self._report_vanished(result, vanished[result.name])
                self._report(result, errors, paused)
        self._settle_if_done()

    def _report(self, result: Result, errors: dict[str, str], paused: dict[str, str]) -> None:
        self._remarks.note_parse(result.name, result.parsed.warnings or ())
        dags = result.listed(errors)
        self._file_stats[result.file] = DagFileStat(
            num_dags=len(dags),
            import_errors=len(errors),
            last_finish_time=datetime.now(tz=UTC),
            last_duration=result.seconds,
            run_count=self._file_stats[result.file].run_count + 1,
        )
        parsed = Parsed(
            snapshot=str(result.version),
            file=result.name,
            dags=dags,
            errors=errors,
            seconds=round(result.seconds, 4),
            used=self._plan.uses(result.name),
            paused={dag_id: paused[dag_id] for dag_id in dags if dag_id in paused},
        )
        if errors.keys() - (result.parsed.import_errors or {}).keys():
            self._plan.note_outside(result.name, UNFINISHED)  # Airflow could not store it.
        self._plan.finish(parsed, overtaken=result.overtaken)
        if result.overtaken:
            self._queue(result.file)
        self._channel.broadcast(parsed)

    def _report_vanished(self, result: Result, dag_ids: list[str]) -> None:
        """Report DAGs that a file lost, and parse the other files that define them."""
        snapshot = str(result.version)
        self._channel.broadcast(Removed(snapshot=snapshot, file=result.name, dags=tuple(dag_ids)))
        owners = self._plan.lose(result.name, dag_ids)
        for owner in owners:
            self._queue(self._file(owner))
        if owners:
            self._channel.broadcast(Parsing(snapshot=snapshot, files=tuple(owners)))

    def _queue(self, file: DagFileInfo) -> None:
        """Parse a file before all others, as the snapshot of the last refresh has it.

        Airflow starts nothing for a file that a parser still has. A file that the save deleted is
        not parsed again.
        """
        fresh = self._file(str(file.rel_path))
        if fresh.absolute_path.exists():
            self._add_files_to_queue([fresh], mode="frontprio")

    def _settle_if_done(self) -> None:
        settled = self._plan.settled()
        if settled is not None:
            told = self._remarks.tell(self._bundle.path, self._listing, self._plan.parses)
            self._channel.broadcast(replace(settled, warnings=told))


def _is_closed(peer: Any) -> bool:
    try:
        return bool(peer.fileno() < 0)
    except (OSError, ValueError):
        return True


def _snapshot_bundle(bundles: Sequence[BaseDagBundle]) -> SnapshotDagBundle:
    """The one bundle of windsock; other bundles are Airflow's business."""
    for bundle in bundles:
        if isinstance(bundle, SnapshotDagBundle):
            return bundle
    raise AirflowConfigException(
        "[dag_processor] dag_bundle_config_list has no bundle of the class windsock.runtime.bundle."
        "SnapshotDagBundle, so Airflow would see no save. Remove it from `airflow` in invoke.yaml."
    )


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
up the memory leaves none for the report of its `MemoryError`.
"""


def _describe_exit(process: DagFileProcessorProcess, memory_limit: int) -> str:
    code = process._exit_code  # noqa: SLF001 - Airflow shows it nowhere else
    if code is not None and code < 0:
        ended = f"was killed by {signal_name(-code)}"
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


def _source() -> str:
    """The author's DAG folder, as `SOURCE_VARIABLE` has it; empty if it is not known."""
    given = os.environ.get(SOURCE_VARIABLE) or ""
    try:
        return Path(given).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return given


def main(arguments: Sequence[str]) -> None:
    """Run the dag-processor: live where this Airflow has the seams, else stock.

    Args:
        arguments: As for `airflow dag-processor`.
    """
    path = os.environ.get(SOCKET_VARIABLE)
    missing = [seam for seam in SEAMS if not hasattr(DagFileProcessorManager, seam)]
    missing += missing_rules()
    if reason := os.environ.pop(STOCK_VARIABLE, ""):
        missing.append(reason)
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
        LiveDagFileProcessorManager.planted = PlantedFile(partial(become_stock, arguments))
        dag_processor_command.DagFileProcessorManager = LiveDagFileProcessorManager
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - parses sys.argv when it runs

    sys.argv = ["airflow", "dag-processor", *arguments]
    airflow()
