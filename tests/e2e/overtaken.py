"""Runs in Airflow's own Python: which of two results that were held back a manager still stores.

Argument: an empty folder. Prints a JSON object: `stored` and `queued`, the names of files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.manager import DagFileInfo
from airflow.dag_processing.processor import DagFileParsingResult

from windsock.runtime.bundle import SnapshotDagBundle
from windsock.runtime.processor import manager as dag_processor
from windsock.runtime.processor.burst import Burst
from windsock.runtime.processor.results import Result

BEFORE, AFTER = "0" * 32, "f" * 32


def write(store: Path, snapshot: str, **files: str) -> None:
    """Make a snapshot, and let it be current."""
    folder = store / "snapshots" / snapshot
    folder.mkdir(parents=True)
    rows = {}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        rows[f"{name}.py"] = ["file", 0o644, len(text), text]
    (store / "manifests").mkdir(exist_ok=True)
    manifest = json.dumps({"version": 1, "entries": rows})
    (store / "manifests" / f"{snapshot}.json").write_text(manifest, encoding="utf-8")
    fresh = store / "fresh"
    fresh.symlink_to(f"snapshots/{snapshot}")
    fresh.replace(store / "current")


class Manager(dag_processor.LiveDagFileProcessorManager):
    """One that parses nothing, and holds results back as if it had."""

    def __init__(self, bundle: SnapshotDagBundle) -> None:
        self._dag_bundles = [bundle]
        self._burst = Burst()
        self._uses: dict[str, set[str]] = {}
        self.stored: list[str] = []
        self.queued: list[str] = []

    def hold_back(self, bundle: SnapshotDagBundle, name: str, *uses: str) -> None:
        """As after a parse of the bundle's snapshot."""
        file = DagFileInfo(rel_path=Path(name), bundle_name=bundle.name, bundle_path=bundle.path)
        parsed = DagFileParsingResult(fileloc=name, serialized_dags=[])
        self._uses[name] = {name, *uses}
        self._burst.add(Result(file=file, version=BEFORE, parsed=parsed, seconds=0.1))

    def _finish(self, result: Any, _errors: Any) -> None:
        self.stored.append(result.name)

    def _add_files_to_queue(self, files: Any, **_: Any) -> None:
        self.queued += [str(file.rel_path) for file in files]


def main() -> None:
    """Hold results back, let another snapshot come, and store them."""
    store = Path(sys.argv[1])
    write(store, BEFORE, edited="1", user="1", helper="1", same="1", deleted="1")
    bundle = SnapshotDagBundle(name="dags", store=str(store))
    bundle.initialize()
    manager = Manager(bundle)
    for name in ("edited.py", "same.py", "deleted.py"):
        manager.hold_back(bundle, name)
    manager.hold_back(bundle, "user.py", "helper.py")
    write(store, AFTER, edited="2", user="1", helper="2", same="1")
    if sys.argv[2:] == ["turned"]:
        bundle.refresh()
    vars(dag_processor)["store"] = lambda results: iter([(result, {}) for result in results])
    manager._store_results()
    print(json.dumps({"stored": manager.stored, "queued": manager.queued}))  # noqa: T201 - its answer


main()
