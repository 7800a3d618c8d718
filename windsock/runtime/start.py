"""Start an Airflow component: `python -m windsock.runtime.start scheduler --skip-serve-logs`.

The same as `airflow scheduler …`, but what the component imports is imported first, with the
garbage collector off: it would otherwise look through a growing heap of modules again and again and
find nothing, for a third of the start's CPU time. What was imported is then frozen, so that forked
workers and parsers share it for good.
"""

from __future__ import annotations

import gc
import importlib
import sys

IMPORTS = {
    "api-server": ("airflow.api_fastapi.main", "airflow.api_fastapi.execution_api.app"),
    "scheduler": ("airflow.jobs.scheduler_job_runner", "airflow.executors.local_executor"),
    "dag-processor": ("windsock.runtime.dag_processor",),
    "triggerer": ("airflow.jobs.triggerer_job_runner",),
}


def import_component(name: str) -> None:
    """Import what a component needs, without the collector's help."""
    gc.disable()
    try:
        for module in ("airflow.__main__", *IMPORTS[name]):
            importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


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
