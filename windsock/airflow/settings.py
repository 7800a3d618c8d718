"""The Airflow settings that every target shares: tuned for a person who waits for a save.

Each value that differs from Airflow's default says why. Measurements: docs/performance.md.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.config import Settings

BUNDLE = "dags"
"""The name of the bundle that windsock serves."""

PLUGINS = "plugins"
"""The further folder that Airflow takes its plugins from."""

ADMIN = "admin"
"""The one user of the environment."""


def shared(settings: Settings, *, store: str) -> dict[str, str]:
    """Airflow's settings as `section.key` → value.

    Args:
        settings: Of the environment.
        store: Where the snapshot store is, as Airflow's processes see it.
    """
    bundle = {
        "name": BUNDLE,
        "classpath": "windsock.runtime.bundle.SnapshotDagBundle",
        # For a dag-processor without an agent; else a poke comes first.
        "kwargs": {"store": store, "refresh_interval": 5},
    }
    values = {
        "core.load_examples": "False",
        "core.dags_are_paused_at_creation": str(not settings.run_schedules),
        "core.executor": "LocalExecutor",
        # A task that a person clears runs the code that they have just mended.
        "core.rerun_with_latest_version": "True",
        # Airflow would show the old tasks for 30 s after an edit that follows an edit.
        "core.min_serialized_dag_update_interval": "0",
        "core.dagbag_import_timeout": str(settings.parse.import_timeout),
        # The default of 2 frames often hides the line of the user's own file. An endless recursion
        # has it first.
        "core.dagbag_import_error_traceback_depth": "1000",
        "core.simple_auth_manager_users": f"{ADMIN}:admin",
        "dag_processor.dag_bundle_config_list": json.dumps([bundle]),
        "dag_processor.bundle_refresh_check_interval": "5",
        "dag_processor.min_file_process_interval": str(settings.parse.interval),
        "dag_processor.parsing_processes": str(settings.parse.processes),
        "dag_processor.dag_file_processor_timeout": str(settings.parse.file_timeout),
        "dag_processor.print_stats_interval": "0",
        # Snapshots are collected by the agent, which asks what still refers to them.
        "dag_processor.stale_bundle_cleanup_interval": "0",
        # The scheduler's own pause, paid before a run is picked up and again before it ends.
        "scheduler.scheduler_idle_sleep_time": "0.1",
        "scheduler.enable_health_check": "True",
        # What a killed scheduler had queued waits for the next look: by default up to five minutes.
        "scheduler.orphaned_tasks_check_interval": "10",
        # A laptop sleeps: a task's token must survive longer than the default ten minutes.
        "execution_api.jwt_expiration_time": "86400",
        "workers.missing_dag_retry_delay": "2",
        # On a busy machine an API server that has just started takes longer than the default of 5 s
        # for its first task, which then fails without having begun.
        "workers.execution_api_timeout": "60",
        # A task's supervisor can miss the moment at which its process ends; it then looks again
        # after this long. By default a failed task, and its slot, waits five seconds for that.
        "workers.min_heartbeat_interval": "1",
        "api.workers": "1",
    }
    if PLUGINS in settings.further_folders:
        # Of the newest snapshot: plugins are read when a process starts, before it knows its run.
        values["core.plugins_folder"] = f"{store}/current/{PLUGINS}"
    return {**values, **settings.airflow}


def runtime_variables(settings: Settings) -> dict[str, str]:
    """The environment variables of `windsock.runtime`, on every target."""
    further = settings.further_folders
    return {
        "WINDSOCK_PARSE_MEMORY_MB": str(settings.parse.memory_limit_mb),
        "WINDSOCK_RUN_SCHEDULES": str(int(settings.run_schedules)),
        **({"WINDSOCK_FURTHER_FOLDERS": os.pathsep.join(sorted(further))} if further else {}),
    }


def environment_variables(values: dict[str, str]) -> dict[str, str]:
    """`section.key` → value as the `AIRFLOW__SECTION__KEY` variables that Airflow reads."""
    return {
        f"AIRFLOW__{name.upper().replace('.', '__', 1)}": value for name, value in values.items()
    }
