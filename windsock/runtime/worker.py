"""Run one task in a pod: `python -m windsock.runtime.worker ARGUMENTS OF THE EXECUTOR`.

The KubernetesExecutor sets a pod's arguments and leaves its command to the pod template, which
names this module. It does what those arguments would do, but imports first, with the garbage
collector off: half of a short task's CPU time, measured. In the end it does not take apart what it
imported: a fifth of the rest.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from windsock.runtime.importing import import_all
from windsock.runtime.start import RUNNING_TASKS, ending_when_told

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
    """The program's own arguments among the container's.

    Raises:
        SystemExit: They are for another program: this Airflow is not the one that we know.
    """
    if arguments[:1] == ["--json-string"] or arguments[:1] == ["--json-path"]:
        return arguments
    if arguments[: len(PREFIX)] != PREFIX:
        sys.exit(f"windsock.runtime.worker runs {PROGRAM}, not {' '.join(arguments[:3])!r}")
    return arguments[len(PREFIX) :]


def main() -> None:
    """Run the task that the arguments describe."""
    done = threading.Event()
    atexit.register(leave_memory_to_the_kernel, done)  # What is registered first runs last.
    sys.argv = [PROGRAM, *options(sys.argv[1:])]
    with ending_when_told():
        import_all(PROGRAM, IMPORTS)
    from airflow.sdk.execution_time.execute_workload import main as execute  # noqa: PLC0415

    execute()
    done.set()


def leave_memory_to_the_kernel(done: threading.Event) -> None:
    """End this process without taking apart its modules one by one.

    Args:
        done: Whether all went well; Python knows the exit code of anything else.
    """
    if done.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
