from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.runtime import store as runtime_store
from windsock.runtime.store import (
    changed_paths,
    current_snapshot,
    folders_of,
    manifest,
    snapshot_folder,
)
from windsock.store import entries as written

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "0" * 32, "f" * 32
entry = st.sampled_from([["file", 0o644, 1, "aa"], ["file", 0o644, 2, "bb"], ["link", 0, 0, "x"]])
entries = st.dictionaries(st.sampled_from(["a.py", "b/c.py", "é.sql", "d"]), entry)


def write(store: Path, snapshot: str, rows: dict[str, list[object]]) -> None:
    folder = store / "manifests"
    folder.mkdir(exist_ok=True)
    (folder / f"{snapshot}.json").write_text(json.dumps({"version": 1, "entries": rows}))


def test_readers_and_writers_of_the_store_mean_the_same_ids() -> None:
    assert runtime_store.TREE_ID == written.TREE_ID


def test_current_is_what_the_link_names(tmp_path: Path) -> None:
    assert current_snapshot(tmp_path) is None
    (tmp_path / "current").symlink_to(f"snapshots/{OLD}")
    assert current_snapshot(tmp_path) == OLD
    assert current_snapshot(tmp_path / "no such store") is None


@pytest.mark.parametrize("target", ["snapshots/../../etc", "snapshots/half-made", "elsewhere"])
def test_a_link_that_names_no_snapshot_counts_as_none(tmp_path: Path, target: str) -> None:
    (tmp_path / "current").symlink_to(target)
    assert current_snapshot(tmp_path) is None


def test_a_file_in_place_of_the_link_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "current").write_text(OLD)
    assert current_snapshot(tmp_path) is None


@given(st.text())
def test_only_a_tree_id_becomes_part_of_a_path(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    store = tmp_path_factory.getbasetemp()
    try:
        folder = snapshot_folder(store, name)
    except ValueError:
        return
    assert folder.parent == store / "snapshots"
    assert "/" not in name
    assert "." not in name


@pytest.mark.parametrize("name", ["..", "../../etc", "", "ABCDEF0123456789", "0" * 15, "0" * 65])
def test_what_is_no_tree_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no snapshot id"):
        snapshot_folder(tmp_path, name)
    with pytest.raises(ValueError, match="is no snapshot id"):
        manifest(tmp_path, name)


@given(before=entries, after=entries)
def test_what_changed_is_what_was_added_altered_or_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, list[object]],
    after: dict[str, list[object]],
) -> None:
    store = tmp_path_factory.mktemp("store")
    write(store, OLD, before)
    write(store, NEW, after)
    changed = changed_paths(store, OLD, NEW)
    assert changed == changed_paths(store, NEW, OLD)
    for path in {*before, *after}:
        assert (path in changed) == (before.get(path) != after.get(path))
    came_or_went = folders_of(before) ^ folders_of(after)
    assert changed == came_or_went | (changed & {*before, *after})


def test_a_manifest_that_was_collected_is_an_os_error(tmp_path: Path) -> None:
    write(tmp_path, NEW, {})
    with pytest.raises(FileNotFoundError):
        changed_paths(tmp_path, OLD, NEW)
