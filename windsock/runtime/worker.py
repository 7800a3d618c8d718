"""Run one task in a pod: `python -m windsock.runtime.worker ARGUMENTS OF THE EXECUTOR`.

The KubernetesExecutor sets a pod's arguments and leaves its command to the pod template, which
names this module. It does what those arguments would do, but imports first, with the garbage
collector off: half of a short task's CPU time, measured.
"""

from __future__ import annotations

import sys

from windsock.runtime.importing import import_all
from windsock.runtime.start import RUNNING_TASKS

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
    sys.argv = [PROGRAM, *options(sys.argv[1:])]
    import_all(PROGRAM, IMPORTS)
    from airflow.sdk.execution_time.execute_workload import main as execute  # noqa: PLC0415

    execute()


if __name__ == "__main__":
    main()
