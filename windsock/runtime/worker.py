"""Run one task in a pod: `python -m windsock.runtime.worker ARGUMENTS OF THE EXECUTOR`.

The KubernetesExecutor sets a pod's arguments; the pod template sets its command, which is this
module. It runs the same program as those arguments, and saves CPU time around it: it imports
everything first and without garbage collection (see `importing`), ends as soon as the task has
ended, and does not take the imported modules apart at the end.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from windsock.runtime.child_end import notice_the_end_of_tasks
from windsock.runtime.importing import import_all, libcst_on_first_use
from windsock.runtime.start import RUNNING_TASKS, ending_on_term

PROGRAM = "airflow.sdk.execution_time.execute_workload"
PREFIX = ["python", "-m", PROGRAM]
"""What the executor's arguments begin with.

Source: `workload_to_command_args` in airflow/providers/cncf/kubernetes/pod_generator.py.
"""

IMPORTS = (
    "airflow.executors.workloads",
    "airflow.executors.base_executor",
    "airflow.sdk.log",
    "airflow.settings",
    *RUNNING_TASKS,
    # The task's process, a fork, reads its DAG with these.
    "airflow.dag_processing.dagbag",
    "airflow.providers.standard.operators.python",
)


def options(arguments: list[str]) -> list[str]:
    """The program's own arguments, out of those of the container.

    Raises:
        SystemExit: They name another program: this version of Airflow starts tasks differently.
    """
    if arguments[:1] in (["--json-string"], ["--json-path"]):
        return arguments
    if arguments[: len(PREFIX)] != PREFIX:
        sys.exit(f"windsock.runtime.worker runs {PROGRAM}, not {' '.join(arguments[:3])!r}")
    return arguments[len(PREFIX) :]


def main() -> None:
    """Run the task that the arguments describe."""
    done = threading.Event()
    atexit.register(_exit_at_once, done)  # What is registered first runs last.
    sys.argv = [PROGRAM, *options(sys.argv[1:])]
    with ending_on_term(), libcst_on_first_use():
        import_all(PROGRAM, IMPORTS)
    notice_the_end_of_tasks()
    from airflow.sdk.execution_time.execute_workload import main as execute  # noqa: PLC0415

    execute()
    done.set()


def _exit_at_once(done: threading.Event) -> None:
    """End this process without taking the imported modules apart, if the program ended well."""
    if done.is_set():  # Else Python ends with the exit code that it knows.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
