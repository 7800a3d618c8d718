"""Further folders travel with the DAG folder: one tree, one snapshot, each below its name."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.contract.sync.rig import content_of, wait_until
from windsock import events
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.sync.rig import Rig


@pytest.fixture
def include(rig: Rig) -> Path:
    """A further folder."""
    folder = rig.root.parent / "shared" / "include"
    folder.mkdir(parents=True)
    return folder


def synced(rig: Rig, include: Path) -> bool:
    """Whether the store holds both folders, the second below its name."""
    wanted = content_of(rig.root)
    wanted.update({f"include/{path}": row for path, row in content_of(include).items()})
    return content_of(rig.current) == wanted


def test_its_files_are_below_its_name_in_the_same_snapshot(rig: Rig, include: Path) -> None:
    rig.write("a.py", "from include.prices import load")
    (include / "prices.py").write_text("def load(): ...")
    (include / "deep").mkdir()
    (include / "deep" / "b.sql").write_text("select 1")
    with rig.running(further={"include": include}) as session:
        tree = session.request_scan()
        assert synced(rig, include)
        assert rig.current.readlink().name == tree
        (include / "deep" / "b.sql").unlink()
        (include / "prices.py").write_text("def load(): return 1")
        rig.write("a.py", "from include.prices import load  # both")
        session.request_scan()
        assert synced(rig, include)
    assert rig.of(events.Sent)[0].paths == ("a.py", "include/deep/b.sql", "include/prices.py")


def test_a_save_in_it_is_seen_without_being_asked_for(rig: Rig, include: Path) -> None:
    rig.write("a.py", "a")
    (include / "prices.py").write_text("one")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        (include / "prices.py").write_text("two")
        sent = rig.wait_for(events.Sent, count=2)
        assert sent.paths == ("include/prices.py",)
        wait_until(lambda: synced(rig, include), "the save")


def test_what_has_its_name_in_the_dag_folder_is_left_out_and_told(rig: Rig, include: Path) -> None:
    rig.write("a.py", "a")
    rig.write("include/mine.py", "hidden")
    (include / "prices.py").write_text("shown")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py", "include/prices.py"}
        assert [each.path for each in rig.of(events.NotSynced)] == ["include"]
        shutil.rmtree(rig.root / "include")
        session.request_scan()
        assert [each.path for each in rig.of(events.SyncedAgain)] == ["include"]


def test_it_has_ignore_rules_of_its_own(rig: Rig, include: Path) -> None:
    rig.write("data.csv", "travels")
    (include / "data.csv").write_text("stays")
    (include / ".windsockignore").write_text("*.csv\n")
    (include / "prices.py").write_text("x")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        assert set(content_of(rig.current)) == {"data.csv", "include/prices.py"}


@pytest.mark.parametrize("which", ["dags", "include"])
def test_a_folder_that_is_emptied_halts_the_sync_until_it_is_meant(
    rig: Rig, include: Path, which: str
) -> None:
    rig.write("a.py", "a")
    (include / "prices.py").write_text("x")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        gone = rig.root / "a.py" if which == "dags" else include / "prices.py"
        gone.unlink()
        halted = rig.wait_for(events.Halted)
        assert str(gone.parent) in halted.reason
        with pytest.raises(EnvironmentFailure, match="is empty"):
            session.request_scan()
        assert set(content_of(rig.current)) == {"a.py", "include/prices.py"}
        session.allow_empty()
        rig.wait_for(events.Resumed)
        session.request_scan()
        assert synced(rig, include)


def test_a_folder_that_vanishes_halts_the_sync_until_it_is_back(rig: Rig, include: Path) -> None:
    rig.write("a.py", "a")
    (include / "prices.py").write_text("x")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        away = include.with_name("away")
        include.rename(away)
        assert str(include) in rig.wait_for(events.Halted).reason
        away.rename(include)
        rig.wait_for(events.Resumed)
        (include / "prices.py").write_text("y")
        wait_until(lambda: synced(rig, include), "it is watched again")


def test_a_file_that_is_too_large_to_keep_is_read_from_its_own_folder(
    rig: Rig, include: Path
) -> None:
    (include / "model.bin").write_bytes(os.urandom(1_000_000))
    rig.write("model.bin", os.urandom(1_000_000))
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        assert synced(rig, include)


def test_a_folder_that_is_no_longer_named_leaves_the_store(rig: Rig, include: Path) -> None:
    rig.write("a.py", "a")
    (include / "prices.py").write_text("x")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
    with rig.running() as session:
        session.request_scan()
        rig.assert_equal()
