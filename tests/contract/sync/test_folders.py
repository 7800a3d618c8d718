"""Further folders travel with the DAG folder: one tree, one snapshot, each below its name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.sync.rig import SESSION, Rig, content_of, wait_until
from windsock import events
from windsock.errors import EnvironmentFailure
from windsock.sync import folders
from windsock.sync.scan import Scan, scan
from windsock.sync.times import EMPTY_PATIENCE
from windsock.sync.watch import POLL, Wake

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_that_saves_in_it_are_noticed_late_is_told_and_stands_as_long_as_it_holds(
    rig: Rig, include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.write("a.py", "a")
    (include / "prices.py").write_text("one")
    monkeypatch.setattr(
        "windsock.sync.watch.silent_file_system",
        lambda root: "virtiofs reports no changes" if root == include else "",
    )
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        [note] = rig.of(events.Note)
        assert str(include) in note.message
        assert session.notes == [note.message]
    assert session.notes == []


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
        if which == "dags":
            with pytest.raises(EnvironmentFailure, match="is empty"):
                session.request_scan()
        else:
            assert halted.folders == ("include",)
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
        rig.write("a.py", "b")  # Of the DAG folder nothing is held back.
        session.request_scan()
        assert (rig.current / "a.py").read_text() == "b"
        assert (rig.current / "include/prices.py").read_text() == "x"
        away.rename(include)
        rig.wait_for(events.Resumed)
        (include / "prices.py").write_text("y")
        wait_until(lambda: synced(rig, include), "it is watched again")


def test_what_was_allowed_of_one_folder_is_not_allowed_of_another(rig: Rig, include: Path) -> None:
    file = rig.write("a.py", "a")
    (include / "prices.py").write_text("x")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        include.rename(include.with_name("away"))
        rig.wait_for(events.Halted)
        session.allow_empty()
        rig.wait_for(events.Resumed)
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py"}
        file.unlink()
        assert rig.wait_for(events.Halted, count=2).folders == ()
        assert set(content_of(rig.current)) == {"a.py"}


def test_a_halt_is_told_again_when_its_reason_changes(rig: Rig) -> None:
    rig.write("a.py", "a")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "a.py").unlink()
        assert "is empty" in rig.wait_for(events.Halted).reason
        rig.root.rmdir()
        assert "cannot be read" in rig.wait_for(events.Halted, count=2).reason


def test_a_listing_that_ends_too_early_takes_nothing_away(
    rig: Rig, include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the DAG folder and of a further one: a network or a disk that fails for a moment."""
    really, broken = os.scandir, threading.Event()

    def fail(path: Any) -> Any:
        fails = broken.is_set() and threading.current_thread().name == SESSION
        return half(path) if fails and os.fsencode(path) in roots else really(path)

    @contextlib.contextmanager
    def half(path: Any) -> Iterator[Any]:
        def items() -> Iterator[Any]:
            yield next(all_items)
            raise OSError(errno.ESTALE, "Stale file handle")

        with really(path) as all_items:
            yield items()

    roots = (os.fsencode(rig.root), os.fsencode(include))
    monkeypatch.setattr(os, "scandir", fail)
    for name in ("a.py", "b.py"):
        rig.write(name, name)
        (include / name).write_text(name)
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        broken.set()
        rig.write("a.py", "new")
        session.request_scan()
        assert len(content_of(rig.current)) == 4
        told = {each.path for each in rig.of(events.NotSynced)}
        assert told == {".", "include/."}
        broken.clear()
        rig.wait_for(events.SyncedAgain, count=2)
        session.request_scan()
        assert synced(rig, include)


def test_a_link_that_is_swapped_leads_to_the_new_folder_within_a_moment(
    rig: Rig, include: Path
) -> None:
    """As git-sync and `ln -s … && mv -T` do it: of the DAG folder, and of a further folder."""
    for name in ("dags-1", "dags-2", "include-1", "include-2"):
        (include.parent / name).mkdir()
        (include.parent / name / "a.py").write_text(name)
    rig.root.rmdir()
    include.rmdir()
    rig.root.symlink_to(include.parent / "dags-1")
    include.symlink_to("include-1")
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        for link in (rig.root, include):
            fresh = link.with_name("fresh")
            fresh.symlink_to(include.parent / f"{link.name}-2")
            fresh.rename(link)
            wait_until(lambda: synced(rig, include), "the new folder", timeout=POLL + 4)
            (link / "a.py").write_text("it is watched, too")
            wait_until(lambda: synced(rig, include), "a save in it", timeout=POLL + 4)


def test_a_link_into_a_further_folder_leads_there(rig: Rig, include: Path) -> None:
    (include / "deep").mkdir()
    (include / "deep/prices.py").write_text("x")
    (include / "left-out.tmp").write_text("x")
    (include / "back").symlink_to(rig.root / "a.py")
    (include / "circle").symlink_to(rig.root)
    rig.write("a.py", "a")
    rig.write("team/a.py", "a")
    (rig.root / "team/prices.py").symlink_to(include / "deep/prices.py")
    (rig.root / "team/all").symlink_to(include)
    (rig.root / "team/none").symlink_to(include / "left-out.tmp")
    (rig.root / "team/alien").symlink_to(rig.store)
    with rig.running(further={"include": include}) as session:
        session.request_scan()
        assert (rig.current / "team/prices.py").readlink() == Path("../include/deep/prices.py")
        assert (rig.current / "team/all").readlink() == Path("../include")
        assert (rig.current / "include/back").readlink() == Path("../a.py")
        told = {each.path: each.reason for each in rig.of(events.NotSynced)}
        assert set(told) == {"team/none", "team/alien", "include/circle"}
        assert str(rig.store) in told["team/alien"]
        assert "sync.folders" in told["team/alien"]


def test_broken_rules_at_the_start_send_nothing_until_they_are_mended(
    rig: Rig, include: Path
) -> None:
    """Nor do they end the process, which would be started again and again."""
    rig.write("a.py", "a")
    rig.write(".windsockignore", b"ok\n\xff\xfe.csv\n")
    (include / "prices.py").write_text("x")
    (include / ".windsockignore").write_text("!\n")
    with rig.running(further={"include": include}) as session:
        assert "line 2 is no pattern" in rig.wait_for(events.Halted).reason
        rig.write(".windsockignore", "ok\n")
        assert rig.wait_for(events.Halted, count=2).folders == ("include",)
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py"}
        (include / ".windsockignore").unlink()
        rig.wait_for(events.Resumed)
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py", "include/prices.py"}


def test_rules_that_are_emptied_and_then_written_let_nothing_through(rig: Rig) -> None:
    rig.write("a.py", "a")
    rig.write("secret.key", "x")
    rules = rig.write(".windsockignore", "*.key\n")
    with rig.running() as session:
        session.request_scan()
        rules.write_text("")  # Truncated, and written a moment later.
        rig.write("a.py", "b")
        writer = threading.Timer(0.15, lambda: rules.write_text("*.key\n*.csv\n"))
        writer.start()
        session.request_scan()
        writer.join()
        assert content_of(rig.current).keys() == {"a.py"}
        found = {path.name for path in (rig.store / "snapshots").rglob("*.key")}
        assert not found
        rules.unlink()  # It is meant.
        session.request_scan()
        assert content_of(rig.current).keys() == {"a.py", "secret.key"}


def test_a_rule_that_leaves_out_everything_is_named(rig: Rig) -> None:
    rig.write("a.py", "a")
    with rig.running() as session:
        session.request_scan()
        rig.write(".windsockignore", "# all\n*\n")
        reason = rig.wait_for(events.Halted).reason
        assert "line `*`" in reason
        assert str(rig.root / ".windsockignore") in reason
        assert [each.path for each in rig.of(events.NotSynced)] == [".windsockignore"]
        rig.write(".windsockignore", "*.csv\n")
        rig.wait_for(events.Resumed)
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py"}


def test_a_rule_is_not_blamed_for_files_that_are_gone(rig: Rig) -> None:
    rig.write("team/a.py", "a")
    rig.write("data.csv", "x")
    rig.write(".windsockignore", "*.csv\n")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "team/a.py").rename(rig.root.parent / "a.py")
        assert "is empty" in rig.wait_for(events.Halted).reason
        assert not rig.of(events.NotSynced)
        rig.write("team/a.py", "a")
        rig.wait_for(events.Resumed)
        rig.write(".windsockignore", "*.csv\nteam/\n")
        assert "line `team/`" in rig.wait_for(events.Halted, count=2).reason


def test_an_unreadable_subfolder_stays_as_it_was_and_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, a disk or a network that fails for a moment: nothing was deleted."""
    really_scandir, broken = os.scandir, threading.Event()

    def fail(path: bytes) -> Any:
        if broken.is_set() and threading.current_thread().name == SESSION and b"/sub" in path:
            raise OSError(errno.EIO, "Input/output error")
        return really_scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    rig.write("sub/deep/a.py", "a")
    rig.write("b.py", "b")
    with rig.running() as session:
        session.request_scan()
        broken.set()
        rig.write("b.py", "c")
        session.request_scan()
        assert set(content_of(rig.current)) == {"sub/deep/a.py", "b.py"}
        assert rig.wait_for(events.NotSynced) == events.NotSynced(
            path="sub", reason="it cannot be read: Input/output error"
        )
    broken.set()  # A new process finds it as it is, and knows only the store.
    with rig.running() as session:
        session.request_scan()
        assert set(content_of(rig.current)) == {"sub/deep/a.py", "b.py"}
        (rig.root / "sub/deep/a.py").unlink()
        broken.clear()
        rig.wait_for(events.SyncedAgain)  # Without any event of the folder.
        session.request_scan()
        assert set(content_of(rig.current)) == {"b.py"}


def test_a_file_that_is_emptied_and_then_written_is_never_empty_in_the_store(rig: Rig) -> None:
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "a.py").write_text("")  # Truncated, and written a moment later.
        rig.write("b.py", "another save")
        waiting = threading.Timer(0.15, lambda: (rig.root / "a.py").write_text("two"))
        waiting.start()
        session.request_scan()
        waiting.join()
        assert (rig.current / "a.py").read_text() == "two"
        snapshots = [path / "a.py" for path in (rig.store / "snapshots").iterdir()]
        assert all(path.read_text() for path in snapshots)
        (rig.root / "a.py").write_text("")  # It is meant.
        session.request_scan()
        assert (rig.current / "a.py").read_text() == ""


def test_files_that_are_emptied_one_by_one_hold_nothing_back_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Any] = []

    def look(*arguments: Any, only: Any, **options: Any) -> Scan:
        looked_at.append(only)
        return scan(*arguments, only=only, **options)

    monkeypatch.setattr(folders, "scan", look)
    rig = Rig(tmp_path, "memory")
    names = [f"{number}.py" for number in range(6)]
    for name in names:
        rig.write(name, name)
    clock = [0.0]
    session = rig.session(clock=lambda: clock[0])
    try:
        session.step()
        for before, name in zip(["", *names], names, strict=False):
            rig.write(name, "")
            if before:  # Each is empty for a moment only.
                rig.write(before, f"# {before}")
            session.step(Wake(clock[0], frozenset(filter(None, (before, name)))))
            clock[0] += EMPTY_PATIENCE / 8
            session.step()
            clock[0] += EMPTY_PATIENCE / 8
        assert len(rig.of(events.Sent)) == 2
        assert (rig.current / names[0]).read_text() == f"# {names[0]}"
        assert frozenset(names[:1]) in looked_at
        assert None not in looked_at[1:9]  # Until the wait ends, only these files.
    finally:
        session.close()


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
