"""Import every DAG of a folder, each file in a process of its own, without a running Airflow.

Run in Airflow's venv as `python -m windsock.runtime.check FOLDER --timeout S --memory MB
--processes N`. Prints a JSON object for each file as it is done: {"file", "dags": {id: tasks},
"errors": {path: traceback}, "seconds"}. Whenever files are begun it prints {"files": count of all,
"done": count, "importing": [file]}. No database is used: a DAG that reads a Variable on import gets
an error.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from windsock.runtime.folder_modules import use_folder
from windsock.runtime.params import check_param_schemas
from windsock.runtime.processor.listing import DagFiles
from windsock.runtime.processor.parser import limit_memory
from windsock.runtime.processor.texts import describe, storable
from windsock.runtime.signals import signal_name
from windsock.runtime.zips import under_one_name

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

    from windsock.runtime.processor.listing import Listing

Outcome = dict[str, Any]


def check_file(file: str, folder: str, memory: int, answer: Connection) -> None:
    """Import one DAG file and send its outcome; runs in the forked child."""
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415 - only Airflow has it
    from airflow.serialization.serialized_objects import (  # noqa: PLC0415 - the same
        DagSerialization,
    )

    limit_memory(memory)
    use_folder(folder)
    relative = str(Path(file).relative_to(folder))
    try:
        bag = BundleDagBag(
            dag_folder=file, bundle_path=Path(folder), bundle_name="check", load_op_links=False
        )
        dags = {dag_id: len(dag.tasks) for dag_id, dag in bag.dags.items()}
        errors = under_one_name(bag.import_errors, relative)
        for dag in bag.dags.values():
            try:
                DagSerialization.to_dict(dag)
            except Exception:  # noqa: BLE001 - as below
                del dags[dag.dag_id]
                errors[relative] = traceback.format_exc()
    except BaseException:  # noqa: BLE001 - whatever a DAG does is reported
        dags, errors = {}, {relative: traceback.format_exc()}
    answer.send({"file": relative, "dags": dags, "errors": errors})


class Check:
    """A running import of one file."""

    def __init__(self, file: Path, folder: Path, memory: int) -> None:
        self.file = str(file.relative_to(folder))
        context = multiprocessing.get_context("fork")
        self.answer, sender = context.Pipe(duplex=False)
        self.started = time.monotonic()
        self.process: ForkProcess = context.Process(
            target=check_file, args=(str(file), str(folder), memory, sender), daemon=True
        )
        self.process.start()
        sender.close()

    def finish(self, *, timeout: float) -> Outcome | None:
        """The outcome, or None while the import goes on."""
        seconds = time.monotonic() - self.started
        if self.answer.poll():
            try:
                outcome: Outcome = self.answer.recv()
            except EOFError:
                self.process.join()
                code = self.process.exitcode or 0
                ended = f"with exit code {code}" if code >= 0 else f"by {signal_name(-code)}"
                outcome = self._failure(f"the import ended its process {ended}")
            except Exception as error:  # noqa: BLE001 - whatever a DAG file has written there
                outcome = self._failure(f"its outcome cannot be read: {describe(error)}")
        elif seconds > timeout:
            outcome = self._failure(f"the import did not end within {timeout:.0f} s")
        else:
            return None
        self.process.kill()
        self.process.join()
        return {**outcome, "seconds": round(seconds, 3)}

    def _failure(self, reason: str) -> Outcome:
        return {"file": self.file, "dags": {}, "errors": {self.file: f"{self.file}: {reason}"}}


def check_folder(
    folder: Path, *, timeout: float, memory: int, processes: int, answers: TextIO
) -> None:
    """Check all DAG files below `folder`, and write each outcome to `answers`."""
    # Imported once, before the forks: what DAG files use anyway, and what parsing them needs.
    import airflow.dag_processing.manager  # noqa: PLC0415 - only Airflow has it
    import airflow.serialization.serialized_objects  # noqa: F401, PLC0415 - the same
    from airflow.sdk import DAG, task  # noqa: F401, PLC0415 - the same

    check_param_schemas()
    listing = _listed(folder)
    waiting = [folder / name for name in listing.files]
    total, done = len(waiting), 0
    running: list[Check] = []

    def tell(what: Outcome) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    for path, problem in listing.problems.items():
        tell({"file": path, "dags": {}, "errors": {path: storable(problem)}, "seconds": 0.0})
    while waiting or running:
        if waiting and len(running) < processes:
            while waiting and len(running) < processes:
                running.append(Check(waiting.pop(0), folder, memory))
            importing = [check.file for check in running]
            tell({"files": total, "done": done, "importing": importing})
        wait([check.answer for check in running], timeout=0.1)
        for check in list(running):
            outcome = check.finish(timeout=timeout)
            if outcome is not None:
                running.remove(check)
                done += 1
                tell(outcome)


def _listed(folder: Path) -> Listing:
    """The DAG files, as the dag-processor finds them."""
    from airflow.configuration import conf  # noqa: PLC0415 - only Airflow has it

    syntax = conf.get("core", "dag_ignore_file_syntax")
    safe_mode = conf.getboolean("core", "dag_discovery_safe_mode")
    return DagFiles(syntax=syntax, safe_mode=safe_mode).search(folder)


def main() -> None:
    """Read the arguments and check the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=lambda folder: Path(folder).resolve())
    parser.add_argument("--timeout", type=float, required=True, help="seconds for each file")
    parser.add_argument("--memory", type=int, required=True, help="MiB for each file; 0: no limit")
    parser.add_argument("--processes", type=int, required=True)
    arguments = parser.parse_args()
    # Airflow logs to stdout and DAGs print there. It becomes stderr; only the answers go to stdout.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    check_folder(**vars(arguments), answers=answers)


if __name__ == "__main__":
    main()
