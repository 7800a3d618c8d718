"""The reading side of a snapshot store.

The agent (`windsock.store.agent`) writes the store; Airflow's processes only read it:

    current              symlink to snapshots/<tree id>, replaced by rename
    snapshots/<tree id>/ one immutable state of the DAG folder
    manifests/<id>.json  {"version": 1, "entries": {path: [kind, mode, size, digest or target]}}
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SNAPSHOTS = "snapshots"
"""The folder of all snapshots in a store."""

TREE_ID = re.compile(r"[0-9a-f]{32}")


BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
"""The variable that lists Airflow's bundles, as every target sets it."""


def store_of(environment: Mapping[str, str]) -> Path | None:
    """The store that windsock's bundle serves; None if no bundle is windsock's.

    Args:
        environment: The variables of a process of Airflow.
    """
    for bundle in json.loads(environment.get(BUNDLES) or "[]"):
        if str(bundle.get("classpath", "")).startswith("windsock."):
            return Path(bundle["kwargs"]["store"]).resolve()
    return None


def current_snapshot(store: Path) -> str | None:
    """The tree id that `current` names, or None before the first snapshot."""
    try:
        name = (store / "current").readlink().name
    except OSError:
        return None
    return name if TREE_ID.fullmatch(name) else None


@lru_cache(maxsize=8)
def snapshot_folder(store: Path, snapshot: str) -> Path:
    """Where the files of a snapshot are; Airflow asks for each file.

    Raises:
        ValueError: `snapshot` is no tree id, so it must not become part of a path.
    """
    if not TREE_ID.fullmatch(snapshot):
        raise ValueError(f"{snapshot!r} is no snapshot id")
    return store / SNAPSHOTS / snapshot


@lru_cache(maxsize=8)
def manifest(store: Path, snapshot: str) -> dict[str, tuple[object, ...]]:
    """Path relative to the DAG folder → what the path is, for one snapshot.

    Manifests never change, so the last few are cached.

    Raises:
        OSError: The snapshot was collected, or never existed.
    """
    snapshot_folder(store, snapshot)
    text = (store / "manifests" / f"{snapshot}.json").read_text(encoding="utf-8")
    return {path: tuple(entry) for path, entry in json.loads(text)["entries"].items()}


def entry_of(store: Path, snapshot: str, path: str) -> tuple[object, ...] | None:
    """What a path is in a snapshot: kind, mode, size, digest or target; None if not known."""
    try:
        return manifest(store, snapshot).get(path)
    except (OSError, ValueError):  # There is none yet, or it was collected.
        return None


def is_file(path: Path) -> bool:
    """Whether there is a file, whatever a link leads to: `Path.is_file` raises at a long name."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def differing_files(store: Path, old: str, new: str) -> set[str]:
    """Every file that was added, changed or deleted between two snapshots.

    Raises:
        OSError: One of the two was collected.
        ValueError: One of the two is no snapshot id.
    """
    before, after = manifest(store, old), manifest(store, new)
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def changed_paths(store: Path, old: str, new: str) -> set[str]:
    """Every path that was added, changed or deleted between two snapshots, be it of a folder.

    Raises:
        OSError: One of the two was collected.
    """
    before, after = manifest(store, old), manifest(store, new)
    changed = differing_files(store, old, new)
    if not changed <= before.keys() & after.keys():
        changed |= folders_of(before) ^ folders_of(after)
    return changed


def folders_of(paths: Iterable[str]) -> set[str]:
    """All folders above some paths (without the root)."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
