from __future__ import annotations

import subprocess
import sys

import pytest

from windsock.runtime import worker


def test_the_executors_arguments_are_those_of_the_program_after_its_name() -> None:
    arguments = [*worker.PREFIX, "--json-string", '{"ti": 1}']
    assert worker.options(arguments) == ["--json-string", '{"ti": 1}']


@pytest.mark.parametrize("option", ["--json-string", "--json-path"])
def test_by_hand_the_options_suffice(option: str) -> None:
    assert worker.options([option, "value"]) == [option, "value"]


@pytest.mark.parametrize("arguments", [[], ["airflow", "tasks", "run"], ["python", "-m", "other"]])
def test_another_program_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        worker.options(arguments)
    assert worker.PROGRAM in str(caught.value)


PROGRAM = """
import atexit, sys, threading, types
from windsock.runtime import worker

program = types.ModuleType(worker.PROGRAM)
program.main = lambda: {body}
parts = worker.PROGRAM.split(".")
for number in range(len(parts)):
    sys.modules[".".join(parts[: number + 1])] = program
worker.IMPORTS = ()
sys.argv = ["worker", "--json-string", "x"]
worker.main()
"""


def ended(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_registered_for_the_end_runs_and_what_was_printed_arrives() -> None:
    done = ended("(atexit.register(print, 'at the end'), sys.stdout.write('printed '))")
    assert (done.returncode, done.stdout) == (0, "printed at the end\n"), done.stderr


def test_a_thread_that_still_works_is_waited_for() -> None:
    done = ended("threading.Timer(0.2, print, ['from a thread']).start()")
    assert (done.returncode, done.stdout) == (0, "from a thread\n"), done.stderr


def test_a_failure_keeps_its_exit_code() -> None:
    assert ended("sys.exit(3)").returncode == 3
