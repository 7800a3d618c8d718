"""Airflow's triggerer, which finds triggers and callbacks in the DAG folder, as they are today.

A stock triggerer imports them from what is installed alone. It is one process for all triggers, so
a trigger cannot use the snapshot of its run: it uses the current one. One that has begun goes on as
it was; a trigger that watches an asset never ends, and begins anew when its code has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from airflow.jobs import triggerer_job_runner
from airflow.jobs.triggerer_job_runner import TriggerRunner

from windsock.runtime.folder_modules import FolderModules
from windsock.runtime.read_only import refuse_writes
from windsock.runtime.store import SNAPSHOTS, store_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger("windsock")

SEAMS = ("get_trigger_by_classpath", "create_triggers", "run_trigger")
"""The methods of Airflow's runner that this module overrides."""


class FolderTriggerRunner(TriggerRunner):
    """Airflow's runner of triggers, which imports from the current snapshot."""

    store: Path

    def __init__(self) -> None:
        super().__init__()
        self._modules = FolderModules(self.store)
        self._modules.install()
        refuse_writes(self.store / SNAPSHOTS)
        self._from_folder: set[int] = set()

    async def create_triggers(self) -> None:
        """Begin the triggers that Airflow wants, on today's code."""
        if self._modules.renew():
            for trigger, details in self.triggers.items():
                if details["is_watcher"] and trigger in self._from_folder:
                    details["task"].cancel()  # Airflow creates it again.
        self.trigger_cache.clear()
        await super().create_triggers()

    async def run_trigger(self, trigger_id: int, trigger: Any, *rest: Any, **more: Any) -> None:
        """Run a trigger to its end."""
        if self._modules.holds(type(trigger).__module__):
            self._from_folder.add(trigger_id)
        try:
            await super().run_trigger(trigger_id, trigger, *rest, **more)
        finally:
            self._from_folder.discard(trigger_id)


def use_the_folder(environment: Mapping[str, str]) -> None:
    """Let the triggerer of this process import from the DAG folder.

    Args:
        environment: Its variables, which name the bundles.
    """
    store = store_of(environment)
    missing = [seam for seam in SEAMS if not hasattr(TriggerRunner, seam)]
    if missing:
        log.warning(
            "This Airflow has no seam for triggers of the DAG folder; they cannot be imported.",
            missing=missing,
        )
    elif store is not None:
        FolderTriggerRunner.store = store
        triggerer_job_runner.TriggerRunner = FolderTriggerRunner
