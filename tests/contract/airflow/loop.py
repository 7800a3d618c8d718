"""Runs in Airflow's own Python: parts of the live dag-processor, on Airflow's manager.

Nothing is parsed, and no database is asked. Prints a JSON object: the name of each case, and what
came of it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import tempfile
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

from airflow.dag_processing import processor  # noqa: E402
from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: E402
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager  # noqa: E402
from airflow.dag_processing.processor import DagFileProcessorProcess  # noqa: E402
from airflow.sdk.execution_time import task_runner  # noqa: E402

from windsock.runtime.processor import manager as live  # noqa: E402
from windsock.runtime.processor.listing import missing_rules  # noqa: E402
from windsock.runtime.processor.planted import PlantedFile  # noqa: E402
from windsock.runtime.processor.recorder import Recording  # noqa: E402

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


def a_callback_runs_in_a_process_that_is_prepared() -> bool:
    manager = made()
    file = DagFileInfo(
        rel_path=Path("one.py"),
        bundle_name="dags",
        bundle_path=FOLDER / "snapshots" / OLDER,
        bundle_version=OLDER,
    )
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
)

if __name__ == "__main__":
    sys.stdout.write(json.dumps({case.__name__: case() for case in CASES}) + "\n")
