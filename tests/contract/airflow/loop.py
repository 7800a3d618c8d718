"""Runs in Airflow's own Python: parts of the live dag-processor, on Airflow's manager.

Nothing is parsed, and no database is asked. Prints a JSON object: the name of each case, and what
came of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

FOLDER = Path(tempfile.mkdtemp()).resolve()
SNAPSHOT, OLDER = "1" * 32, "2" * 32
BUNDLES = [
    {
        "name": "dags",
        "classpath": "windsock.runtime.bundle.SnapshotDagBundle",
        "kwargs": {"store": str(FOLDER)},
    }
]
os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(BUNDLES)
os.environ["WINDSOCK_DAG_PROCESSOR_SOCKET"] = str(FOLDER / "socket")
LOGS = FOLDER / "logs"
os.environ["AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY"] = str(LOGS)

from airflow.dag_processing import processor  # noqa: E402
from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: E402
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager  # noqa: E402
from airflow.dag_processing.processor import DagFileProcessorProcess  # noqa: E402
from airflow.sdk.execution_time import task_runner  # noqa: E402
from airflow.serialization.serialized_objects import LazyDeserializedDAG  # noqa: E402
from sqlalchemy.exc import OperationalError  # noqa: E402

from windsock.events import Parsed  # noqa: E402
from windsock.runtime.processor import database  # noqa: E402
from windsock.runtime.processor import manager as live  # noqa: E402
from windsock.runtime.processor.listing import missing_rules  # noqa: E402
from windsock.runtime.processor.planted import PlantedFile  # noqa: E402
from windsock.runtime.processor.recorder import Notes, Recording  # noqa: E402

FILES = ("one.py", "two.py")
for snapshot in (SNAPSHOT, OLDER):
    (FOLDER / "snapshots" / snapshot).mkdir(parents=True)
    for name in FILES:
        (FOLDER / "snapshots" / snapshot / name).write_text("# airflow dag")
(FOLDER / "manifests").mkdir()
(FOLDER / "current").symlink_to(f"snapshots/{SNAPSHOT}")


def made() -> Any:
    """A manager whose plan has parsed everything that there is."""
    manager: Any = live.LiveDagFileProcessorManager(max_runs=1)
    manager.selector = selectors.DefaultSelector()
    live.LiveDagFileProcessorManager.planted = PlantedFile(lambda _: None)
    manager._dag_bundles = list(DagBundlesManager().get_all_dag_bundles())
    with mock.patch.object(DagFileProcessorManager, "prepare_bundles"):
        manager.prepare_bundles()
    manager._bundle.refresh()
    manager._bundle_versions["dags"] = SNAPSHOT
    manager._plan.begin(SNAPSHOT, [])
    manager._channel.broadcast = lambda _: None
    return manager


def the_planted_file_is_watched() -> bool:
    made()
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def settings_do_not_wait_for_the_planted_file() -> bool:
    manager = made()
    planted = manager._file(str(manager.planted.path))
    manager._recordings[planted] = {planted: Recording()}
    manager._parse_readers({"names": ["variables/color"]})
    return manager._plan.awaited() == [] and planted in manager._recordings


def what_the_parser_of_a_deleted_file_took_along_is_queued() -> bool:
    manager = made()
    gone, other = manager._file("gone.py"), manager._file("two.py")
    manager._recordings[gone] = {other: Recording(), gone: Recording()}
    with mock.patch.object(DagFileProcessorManager, "_refresh_dag_bundles"):
        manager._refresh_dag_bundles({})
    return manager._recordings == {} and list(manager._file_queue) == [other]


def after_a_recovery_a_result_has_the_snapshot_of_its_file() -> bool:
    manager = made()
    manager._bundle_versions.clear()
    one, two = manager._file("one.py"), manager._file("two.py")
    recording = Recording()
    result = live._failure(one, "it is broken").model_dump_json().encode()
    recording.finish(0.1, result)
    manager._recordings[two] = {one: recording, two: Recording()}
    manager._take_finished()
    [(taken, _)] = manager._unstored
    failed = manager._failed(two, "it was killed", seconds=0.0)
    return (taken.version, failed.version) == (SNAPSHOT, SNAPSHOT)


def deleted_dags_are_looked_for_again() -> bool:
    manager = made()
    present = {manager._file(name) for name in FILES}
    asked = []
    with mock.patch.object(DagFileProcessorManager, "deactivate_deleted_dags") as airflows:
        for _ in range(3):  # The first time it may not have got the lock.
            manager.deactivate_deleted_dags("dags", present)
            asked.append(airflows.call_count)
        manager._housekeeping_at["deleted"] -= live.LOST_SECONDS
        manager.deactivate_deleted_dags("dags", present)
        asked.append(airflows.call_count)
    return asked == [1, 2, 2, 3]


def a_callback_prepares_only_its_own_process() -> bool:
    manager = made()
    before = (dict(os.environ), list(sys.meta_path))
    paths = [
        manager.prepare_callback_bundle(
            SimpleNamespace(bundle_name="dags", bundle_version=version)
        ).path
        for version in (OLDER, SNAPSHOT)
    ]
    collected = SimpleNamespace(bundle_name="dags", bundle_version="3" * 32)
    foreign = SimpleNamespace(bundle_name="dags", bundle_version="main")
    return (
        paths == [FOLDER / "snapshots" / OLDER, FOLDER / "snapshots" / SNAPSHOT]
        and manager.prepare_callback_bundle(collected) is None
        and manager.prepare_callback_bundle(foreign) is None
        and (dict(os.environ), list(sys.meta_path)) == before
    )


def of_an_older_run() -> DagFileInfo:
    """The file of a callback: in the snapshot of its run."""
    return DagFileInfo(
        rel_path=Path("one.py"),
        bundle_name="dags",
        bundle_path=FOLDER / "snapshots" / OLDER,
        bundle_version=OLDER,
    )


def a_callback_runs_in_a_process_that_is_prepared() -> bool:
    manager, file = made(), of_an_older_run()
    manager._callback_to_execute[file].append(mock.sentinel.callback)
    with mock.patch.object(DagFileProcessorProcess, "start") as start:
        manager._create_process(file)
    given = start.call_args.kwargs
    found, told = os.pipe()
    if os.fork() == 0:
        says = lambda: os.write(told, os.environ["AIRFLOW__CORE__DAGS_FOLDER"].encode())  # noqa: E731
        with mock.patch("airflow.dag_processing.processor._parse_file_entrypoint", says):
            given["target"]()
        os._exit(0)
    os.wait()
    os.close(told)
    folder = os.read(found, 4096).decode()
    return (
        given["callbacks"] == [mock.sentinel.callback]
        and file not in manager._callback_to_execute
        and folder == str(file.bundle_path)
    )


def an_error_of_airflow_itself_is_no_result_of_the_planted_file() -> bool:
    manager = made()
    codes = {}
    for file in (manager._file("one.py"), manager._file(str(manager.planted.path))):
        with (
            mock.patch.object(DagFileProcessorProcess, "start") as start,
            mock.patch.object(live, "wake_when_it_ends"),
        ):
            manager._start_parser(file)
        if (pid := os.fork()) == 0:
            code = 1
            try:
                parse_with_another_airflow(start.call_args.kwargs["target"], file)
                code = 0
            finally:
                os._exit(code)
        codes[file.rel_path.name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return codes == {"one.py": 0, "planted.py": 1}


def parse_with_another_airflow(target: Any, file: Any) -> None:
    message = SimpleNamespace(file=str(file.absolute_path), bundle_path=file.bundle_path)
    task_runner.SUPERVISOR_COMMS = mock.Mock()

    def run() -> None:
        processor._parse_file(message, None)

    with (
        mock.patch.object(processor, "_parse_file", side_effect=TypeError("one argument more")),
        mock.patch.object(processor, "_parse_file_entrypoint", run),
    ):
        target()


class Ended(BaseException):
    """Ends the parsing loop from outside."""


def told_by(manager: Any, *turns: BaseException) -> tuple[list[str], BaseException]:
    """What is told while each turn of Airflow's own loop raises, and what the loop ends with."""
    told: list[str] = []
    manager._channel.broadcast = lambda event: told.append(event.message)
    manager.heartbeat = mock.Mock(side_effect=[*turns, Ended()])  # Each turn begins with it.
    try:
        manager._run_parsing_loop()
    except (Ended, OperationalError, ValueError) as end:
        return told, end
    raise AssertionError("the loop has no end")


def the_loop_goes_on_after_three_errors_in_a_minute() -> bool:
    errors = [KeyError(name) for name in FILES] + [ValueError("a third one\nof two lines")]
    manager = made()
    told, end = told_by(manager, *errors)
    return (
        [message.split("goes on: ")[1].split(";")[0] for message in told]
        == ["KeyError: 'one.py'", "KeyError: 'two.py'", "ValueError: a third one"]
        and isinstance(end, Ended)
        and manager._force_refresh_bundles == {"dags"}  # So all files are found anew.
        and "dags" not in manager._bundle_versions
    )


def the_fourth_error_in_a_minute_ends_the_loop() -> bool:
    errors = [ValueError(number) for number in range(5)]
    told, end = told_by(made(), *errors)
    with mock.patch.object(live, "RECOVERY_SECONDS", 0.0):  # They are further apart than that.
        told_apart, end_apart = told_by(made(), *errors)
    return (len(told), end) == (3, errors[3]) and (
        len(told_apart) == 5 and isinstance(end_apart, Ended)
    )


def without_a_database_the_loop_ends_at_once() -> bool:
    away = OperationalError("SELECT 1", {}, Exception("no connection"))
    return told_by(made(), away) == ([], away)


def parsed(manager: Any, **sources: str) -> dict[str, Any]:
    """What real parsers made of DAG files, each by its own: file → its import error, or None."""
    for name, source in sources.items():
        (FOLDER / "snapshots" / SNAPSHOT / f"{name}.py").write_text(f"# airflow dag\n{source}\n")
        file = manager._file(f"{name}.py")
        manager._processors[file] = manager._create_process(file)
    deadline = time.monotonic() + 30
    with mock.patch.object(manager, "_store_results"):  # In the database.
        while manager._processors and time.monotonic() < deadline:
            manager._service_processor_sockets(timeout=0.1)
            with contextlib.suppress(Exception):  # As the loop: it goes on.
                manager._collect_results()
    left = {file.rel_path.stem: "its parser is still there" for file in manager._processors}
    return left | {
        result.file.rel_path.stem: (result.parsed.import_errors or {}).get(result.name)
        for result, _ in manager._unstored
    }


def a_parser_that_any_signal_ends_fails_its_own_file_alone() -> bool:
    kill = "import os\nos.kill(os.getpid(), {})"
    made_of = parsed(made(), sound="", real_time=kill.format(35), last=kill.format(64))
    return made_of == {
        "sound": None,
        "real_time": "real_time.py: the parser was killed by signal 35 before the import was done",
        "last": "last.py: the parser was killed by SIGRTMAX before the import was done",
    }


def an_error_about_one_result_fails_its_file_alone() -> bool:
    manager = made()
    describe = live._describe_exit

    def raise_once(process: Any, limit: int) -> str:
        if process.dag_file_rel_path == "odd.py":
            raise LookupError("no such exit")
        return describe(process, limit)

    with mock.patch.object(live, "_describe_exit", raise_once):
        made_of = parsed(manager, odd="", sound="")
    reason = "odd.py: what came of it could not be handled: LookupError: no such exit"
    return made_of == {"odd": reason, "sound": None} and manager._recordings == {}


def what_cannot_be_stored_or_told_fails_its_file_alone() -> bool:
    manager = made()
    events: list[Any] = []
    manager._channel.broadcast = events.append
    odd = {"dag": {"serialized_dags": [LazyDeserializedDAG(data={})]}, "warning": {"warnings": [7]}}
    for name, what in {"sound": {}, **odd}.items():
        result = manager._failed(manager._file(f"{name}.py"), "", seconds=0.1)
        update = {"import_errors": {}, **what}
        made_of = result.parsed.model_copy(update=update)
        manager._unstored.append((replace(result, parsed=made_of), Notes(paths=set())))
    with (
        mock.patch.object(live, "store", lambda results: [(r, errors_of(r)) for r in results]),
        mock.patch.object(database, "keep_running"),
        mock.patch.object(database, "deactivate_vanished", return_value={}),
        mock.patch.object(database, "paused", return_value={}),
    ):
        while manager._unstored:
            manager._store_results()
    told = {each.file: each.errors for each in events if isinstance(each, Parsed)}
    reason = "what came of it could not be handled: AttributeError: "
    return told.pop("sound.py") == {} and all(
        reason in told[name][name] for name in ("dag.py", "warning.py")
    )


def errors_of(result: Any) -> dict[str, str]:
    return dict(result.parsed.import_errors or {})


def what_a_parser_prints_goes_where_the_setting_says() -> bool:
    printed: list[str] = []
    for target in ("file", "stdout"):
        os.environ["AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET"] = target
        with written() as output:
            parsed(made(), noisy=f"print('a word to {target}')")
        printed.append(output.read_text())
    log = next(LOGS.glob("*/dags/noisy.py.log")).read_text()  # It has all of it.
    return "a word" not in printed[0] and all(
        "a word to stdout" in text for text in (printed[1], log)
    )


@contextlib.contextmanager
def written() -> Any:
    """The file that takes what this process writes to stdout."""
    output, before = FOLDER / "output", os.dup(1)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
    try:
        yield output
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


def a_callback_whose_process_cannot_be_started_is_tried_again() -> bool:
    manager, file = made(), of_an_older_run()
    told: list[str] = []
    manager._channel.broadcast = lambda event: told.append(event.message)
    manager._callback_to_execute[file].append(mock.sentinel.callback)
    started = []
    with (
        mock.patch.object(DagFileProcessorManager, "fetch_callbacks", return_value=[]),
        mock.patch("os.fork", side_effect=BlockingIOError(errno.EAGAIN, "no more processes")),
    ):
        manager._add_files_to_queue([file], mode="front")
        for _ in range(5):
            manager._start_new_processes()
            started.append(file in manager._processors)
            manager._housekeeping_at.clear()  # A second has passed.
            manager.fetch_callbacks()
    with mock.patch.object(DagFileProcessorProcess, "start") as start:
        manager._start_new_processes()
    return (
        not any(started)
        and file in manager._processors
        and start.call_args.kwargs["callbacks"] == [mock.sentinel.callback]
        and file not in manager._callback_to_execute
        and manager._unstored == []
        and manager._postponed == set()
        and len(told) == 1
        and "callbacks of one.py could not be started" in told[0]
        and "no more processes" in told[0]
    )


def airflow_has_all_seams() -> bool:
    return missing_rules() == [] and all(
        hasattr(DagFileProcessorManager, seam) for seam in live.SEAMS
    )


CASES = (
    airflow_has_all_seams,
    the_planted_file_is_watched,
    settings_do_not_wait_for_the_planted_file,
    what_the_parser_of_a_deleted_file_took_along_is_queued,
    after_a_recovery_a_result_has_the_snapshot_of_its_file,
    deleted_dags_are_looked_for_again,
    an_error_of_airflow_itself_is_no_result_of_the_planted_file,
    a_callback_prepares_only_its_own_process,
    a_callback_runs_in_a_process_that_is_prepared,
    a_callback_whose_process_cannot_be_started_is_tried_again,
    the_loop_goes_on_after_three_errors_in_a_minute,
    the_fourth_error_in_a_minute_ends_the_loop,
    without_a_database_the_loop_ends_at_once,
    a_parser_that_any_signal_ends_fails_its_own_file_alone,
    an_error_about_one_result_fails_its_file_alone,
    what_cannot_be_stored_or_told_fails_its_file_alone,
    what_a_parser_prints_goes_where_the_setting_says,
)

if __name__ == "__main__":
    sys.stdout.write(json.dumps({case.__name__: case() for case in CASES}) + "\n")
