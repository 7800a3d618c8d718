"""Run one task in a pod: `python -m windsock.runtime.worker ARGUMENTS OF THE EXECUTOR`.

The KubernetesExecutor sets a pod's arguments and leaves its command to the pod template, which
names this module. It does what those arguments would do, but imports first, with the garbage
collector off: half of a short task's CPU time, measured. It imports no library that few tasks use,
reads no certificates where none are used, ends with its task, and in the end does not take apart
what it imported.
"""

from __future__ import annotations

import atexit
import os
import ssl
import sys
import threading
from typing import TYPE_CHECKING

from windsock.runtime.importing import import_all
from windsock.runtime.postponing import postponed
from windsock.runtime.processor.exits import end_with_the_task
from windsock.runtime.start import RUNNING_TASKS, ending_when_told

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "airflow.sdk.execution_time.execute_workload"
PREFIX = ["python", "-m", PROGRAM]
"""What the executor's arguments begin with.

Source: `workload_to_command_args` in airflow/providers/cncf/kubernetes/pod_generator.py.
"""

API_VARIABLE = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"

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
    with ending_when_told(), postponed():
        import_all(PROGRAM, IMPORTS)
    end_with_the_task()
    trust_nobody_where_none_is_asked(os.environ)
    from airflow.sdk.execution_time.execute_workload import main as execute  # noqa: PLC0415

    execute()
    done.set()


def trust_nobody_where_none_is_asked(environment: Mapping[str, str]) -> None:
    """Read no certificate authorities where the API server is asked by plain HTTP.

    Airflow's client reads all of them twice before its first request: 49 ms of CPU, measured. With
    none, a connection by TLS would be refused.

    Args:
        environment: Names the API server.
    """
    if not environment.get(API_VARIABLE, "").startswith("http://"):
        return
    try:
        from airflow.sdk.api.client import Client  # noqa: PLC0415 - imported by `main`

        Client._get_ssl_context_cached  # noqa: B018, SLF001 - nothing is put where nothing was
    except (ImportError, AttributeError):
        return
    Client._get_ssl_context_cached = staticmethod(  # noqa: SLF001 - as above
        lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )


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
