"""Start an Airflow component: `python -m windsock.runtime.start scheduler --skip-serve-logs`.

The same as `airflow scheduler …`, but what the component imports is imported first, all at once
(see `importing`); in an image it then waits for the migration that another pod does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from windsock.runtime.asset_events import forget_deleted_runs
from windsock.runtime.child_end import notice_the_end_of_tasks
from windsock.runtime.importing import import_all, libcst_on_first_use
from windsock.runtime.leftovers import end_leftovers
from windsock.runtime.migration import HEAD_VARIABLE, wait_if_in_an_image
from windsock.runtime.processor.catchup import prevent_catchup
from windsock.runtime.processor.first_parse import parse_small_dag
from windsock.runtime.read_only import mount_read_only
from windsock.runtime.store import SNAPSHOTS, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXECUTOR_VARIABLE = "AIRFLOW__CORE__EXECUTOR"

SUPERVISED_VARIABLE = "WINDSOCK_ENVIRONMENT"
"""Set where supervisord starts the components; see `windsock.local.orphans`."""

WRITING_DAGS = (
    "airflow.sdk.definitions.decorators",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.version",
)
"""What most DAG files import, or cause to be imported when they are serialized. A parser is a fork
of the dag-processor: preloaded, a small file takes 44 ms of CPU instead of 68."""

RUNNING_TASKS = (
    "airflow.sdk._shared.logging.factory",
    "airflow.sdk._shared.logging.remote",
    "airflow.sdk._shared.logging.structlog",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.execution_time.coordinator",
    "airflow.sdk.execution_time.request_handlers",
    "airflow.sdk.execution_time.schema.migrator",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "jinja2.ext",
    "windsock.runtime.bundle",
)
"""What a task needs before its own code. The LocalExecutor's workers are forks of the scheduler:
preloaded, a task takes 99 ms of CPU instead of 131."""

LOCAL_EXECUTOR = ("airflow.executors.local_executor", *WRITING_DAGS, *RUNNING_TASKS)
"""What the scheduler needs too where its own forks run the tasks."""

IMPORTS = {
    "api-server": ("airflow.api_fastapi.main", "airflow.api_fastapi.execution_api.app"),
    "scheduler": ("airflow.jobs.scheduler_job_runner",),
    "dag-processor": ("windsock.runtime.processor.manager", *WRITING_DAGS),
    "triggerer": ("windsock.runtime.triggerer",),
}


def imports(name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The modules to import before a component starts; the environment names the executor."""
    return (*IMPORTS[name], *(LOCAL_EXECUTOR if forks_tasks(name, environment) else ()))


def forks_tasks(name: str, environment: Mapping[str, str]) -> bool:
    """Whether a component's own forks run the tasks."""
    return name == "scheduler" and environment.get(EXECUTOR_VARIABLE) == "LocalExecutor"


def let_children_end() -> None:
    """Let TERM end the forks of this process.

    They inherit the scheduler's handler of TERM, which does nothing in them. Airflow then waits
    20 s for its watcher of pods (measured), longer than Kubernetes waits for Airflow.
    """
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@contextlib.contextmanager
def ending_on_term() -> Iterator[None]:
    """Let TERM end this process during the block; Airflow sets its own handlers afterwards.

    The first process of a container ignores signals that it does not handle. Kubernetes would wait
    for it in vain, and then kill it.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Become the component that the first argument names."""
    name = sys.argv[1]
    store = store_of(os.environ)
    if store is not None:
        mount_read_only(store / SNAPSHOTS)  # Now: later there may be threads.
    with ending_on_term():
        if SUPERVISED_VARIABLE in os.environ:
            end_leftovers()
        with libcst_on_first_use():
            import_all("airflow.__main__", imports(name, os.environ))
        if name == "dag-processor":
            prevent_catchup()
            parse_small_dag()
        if forks_tasks(name, os.environ):
            notice_the_end_of_tasks()
        wait_if_in_an_image(os.environ)
    if name == "scheduler" and HEAD_VARIABLE in os.environ:
        let_children_end()
    if name == "scheduler":
        forget_deleted_runs()
    if name == "dag-processor":
        from windsock.runtime.processor import manager as dag_processor  # noqa: PLC0415 - imported above

        dag_processor.main(sys.argv[2:])
        return
    if name == "triggerer":
        from windsock.runtime.triggerer import use_the_folder  # noqa: PLC0415 - imported above

        use_the_folder(os.environ)
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - imported above

    sys.argv = ["airflow", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()
