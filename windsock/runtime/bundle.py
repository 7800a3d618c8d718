"""The DAG bundle that serves snapshots: what a run starts with is what it ends with.

Airflow's own extension point for DAG sources (`BaseDagBundle`, Airflow ≥ 3.0). The version of the
bundle is the tree id of a snapshot. The dag-processor parses the snapshot that `current` named at
its last refresh; a worker opens the very snapshot that its run is pinned to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.exceptions import AirflowException

from windsock.runtime.dag_test import SHELL_VARIABLE, run_once
from windsock.runtime.folder_modules import use_folder
from windsock.runtime.read_only import refuse_writes
from windsock.runtime.store import SNAPSHOTS, current_snapshot, snapshot_folder


class SnapshotDagBundle(BaseDagBundle):
    """Serves the snapshots of a windsock store.

    Args:
        store: The folder of the snapshot store.
    """

    supports_versioning = True

    def __init__(self, *, store: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Resolved once: the recorder compares real paths with the ones a parse opens.
        self.store = Path(store).resolve()
        self._snapshot: str | None = self.version

    def initialize(self) -> None:
        """Make sure that the snapshot a run is pinned to is still there.

        Raises:
            AirflowException: It was collected: only runs that had ended referred to it.
        """
        if self.version is None:
            self.refresh()
            if SHELL_VARIABLE in os.environ:
                self._pin()
        elif not snapshot_folder(self.store, self.version).is_dir():
            raise AirflowException(
                f"snapshot {self.version} of the DAG folder was removed. Clear the task "
                "with 'run with the latest version', or trigger a new run."
            )
        else:
            self._guard()
        super().initialize()

    def _pin(self) -> None:
        """Stay with this snapshot, in a person's own process: `dag.test()` stores the DAGs with it.

        It would store them without a version, and the next runs would be pinned to nothing.
        """
        self.version = self._snapshot
        self._guard()
        run_once()

    def _guard(self) -> None:
        """Prepare this process, which is about to run what is in the snapshot."""
        refuse_writes(self.store / SNAPSHOTS)
        use_folder(str(self.path))

    @property
    def path(self) -> Path:
        """The folder of the snapshot: fixed until the next refresh, so a parse never mixes two."""
        if self._snapshot is None:
            return self.store / SNAPSHOTS / "none-yet"
        return snapshot_folder(self.store, self._snapshot)

    def get_current_version(self) -> BundleVersion | None:
        """The tree id of the snapshot that `path` shows; None before the first one."""
        return None if self._snapshot is None else BundleVersion(version=self._snapshot)

    def refresh(self) -> None:
        """Turn to the snapshot that is current now.

        Raises:
            AirflowException: This bundle is pinned to one version.
        """
        if self.version is not None:
            raise AirflowException("a pinned snapshot cannot be refreshed")
        self._snapshot = current_snapshot(self.store)
