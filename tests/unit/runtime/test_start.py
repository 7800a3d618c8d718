from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from windsock.runtime.start import (
    EXECUTOR_VARIABLE,
    LOCAL_EXECUTOR,
    ending_on_term,
    imports,
)

FORK = """
import os, signal, time
from windsock.runtime.start import let_children_end
signal.signal(signal.SIGTERM, lambda *_: None)  # as Airflow's scheduler, which acts in itself only
let_children_end()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, b"1")
    time.sleep(30)
    os._exit(0)
os.read(reading, 1)
os.kill(child, signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_term_ends_a_fork_of_the_scheduler_and_not_the_scheduler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() == str(-signal.SIGTERM)


@pytest.mark.parametrize(
    ("executor", "preloads"), [("LocalExecutor", True), ("KubernetesExecutor", False)]
)
def test_a_scheduler_preloads_what_tasks_need_only_where_its_forks_run_them(
    executor: str, preloads: bool
) -> None:
    preloaded = set(imports("scheduler", {EXECUTOR_VARIABLE: executor}))
    assert "airflow.jobs.scheduler_job_runner" in preloaded
    assert (set(LOCAL_EXECUTOR) <= preloaded) is preloads


def test_term_ends_a_component_that_imports() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ending_on_term():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
