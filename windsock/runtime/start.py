"""Start an Airflow component: `python -m windsock.runtime.start scheduler --skip-serve-logs`.

The same as `airflow scheduler …`, but what the component imports is imported first, with the
garbage collector off: it would otherwise look through a growing heap of modules again and again and
find nothing, for a third of the start's CPU time. What was imported is then frozen, so that forked
workers and parsers share it for good.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys

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

IMPORTS = {
    "api-server": ("airflow.api_fastapi.main", "airflow.api_fastapi.execution_api.app"),
    "scheduler": (
        "airflow.jobs.scheduler_job_runner",
        "airflow.executors.local_executor",
        *WRITING_DAGS,
        *RUNNING_TASKS,
    ),
    "dag-processor": ("windsock.runtime.dag_processor", *WRITING_DAGS),
    "triggerer": ("airflow.jobs.triggerer_job_runner",),
}


def import_component(name: str) -> None:
    """Import what a component needs, without the collector's help."""
    gc.disable()
    try:
        importlib.import_module("airflow.__main__")
        for module in IMPORTS[name]:
            _preload(module)
    finally:
        gc.freeze()
        gc.enable()


def _preload(module: str) -> None:
    """Import a module that this Airflow may have moved: then it is imported when it is needed."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)


def main() -> None:
    """Become the component that the first argument names."""
    name = sys.argv[1]
    import_component(name)
    if name == "dag-processor":
        from windsock.runtime import dag_processor  # noqa: PLC0415 - imported above

        dag_processor.main(sys.argv[2:])
        return
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - imported above

    sys.argv = ["airflow", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()
