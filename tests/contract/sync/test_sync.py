"""What a session keeps equal, over each transport."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.sync.rig import content_of, wait_until
from windsock import events
from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.sync import session as session_module
from windsock.sync.protocol import StoreBusy
from windsock.sync.session import PATHS_SHOWN
from windsock.sync.times import SyncTimes

if TYPE_CHECKING:
    from tests.contract.sync.rig import Rig
    from windsock.sync.session import SyncSession
    from windsock.sync.transport import Transport


def test_the_first_sync_brings_everything(rig: Rig) -> None:
    rig.write("a.py", "a")
    rig.write("sub/deep/b.sql", "select 1").chmod(0o755)
    (rig.root / "link.py").symlink_to("sub/deep/b.sql")
    with rig.running() as session:
        tree = session.request_scan()
        rig.assert_equal()
        assert rig.current.readlink().name == tree
    assert rig.of(events.Behind)[0].count == 3
    assert rig.of(events.Sent)[0].bytes == 9
    assert rig.of(events.CaughtUp)[0].snapshot == tree


def test_an_empty_folder_and_an_empty_store_make_an_empty_snapshot(rig: Rig) -> None:
    with rig.running() as session:
        session.request_scan()
        assert rig.current.is_dir()
        assert content_of(rig.current) == {}


def test_a_save_is_seen_without_being_asked_for(rig: Rig) -> None:
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        rig.write("a.py", "two")
        sent = rig.wait_for(events.Sent, count=2)
        assert sent.paths == rig.changes[-1].modified == ("a.py",)
        rig.assert_equal()


def test_a_file_written_in_place_ends_equal(rig: Rig) -> None:
    file = rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        with file.open("r+") as opened:
            opened.write("two, and more")
        wait_until(lambda: (rig.current / "a.py").read_text() == "two, and more", "the save")
        with file.open("a") as opened:
            opened.write(", appended")
        wait_until(lambda: (rig.current / "a.py").read_text().endswith("appended"), "the save")
        rig.assert_equal()


def test_only_what_changed_travels(rig: Rig) -> None:
    rig.write("large.bin", os.urandom(2_000_000))
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        old = rig.current.resolve()
        rig.write("a.py", "three")
        session.request_scan()
        assert rig.of(events.Sent)[-1].bytes == 5
        assert (old / "large.bin").stat().st_ino == (rig.current / "large.bin").stat().st_ino
        assert (old / "a.py").read_text() == "one"


def test_a_renamed_folder_is_one_batch_that_sends_nothing(rig: Rig) -> None:
    for number in range(30):
        rig.write(f"before/sub/{number}.py", f"content {number}")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "before").rename(rig.root / "after")
        sent = rig.wait_for(events.Sent, count=2)
        assert (sent.count, len(sent.paths)) == (60, PATHS_SHOWN)
        assert sent.bytes == 0
        rig.assert_equal()
        rig.write("after/sub/1.py", "the moved folder is still watched")
        rig.wait_for(events.Sent, count=3)
        rig.assert_equal()


def test_going_back_sends_nothing_and_looks_changed(rig: Rig) -> None:
    rig.write("a.py", "one")
    with rig.running() as session:
        first = session.request_scan()
        stamp = (rig.current / "a.py").stat().st_mtime_ns
        rig.write("a.py", "two")
        session.request_scan()
        rig.write("a.py", "one")
        assert session.request_scan() == first
        assert rig.of(events.Sent)[-1].bytes == 0
        assert (rig.current / "a.py").stat().st_mtime_ns > stamp
        rig.assert_equal()


def test_a_mode_changes_without_touching_older_snapshots(rig: Rig) -> None:
    file = rig.write("run.sh", "x")
    file.chmod(0o644)
    with rig.running() as session:
        session.request_scan()
        old = rig.current.resolve()
        file.chmod(0o755)
        session.request_scan()
        rig.assert_equal()
        assert (old / "run.sh").stat().st_mode & 0o777 == 0o644


def test_files_folders_and_links_change_places(rig: Rig) -> None:
    rig.write("thing", "a file")
    rig.write("other/x.py", "x")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "thing").unlink()
        rig.write("thing/inside.py", "now a folder")
        shutil.rmtree(rig.root / "other")
        (rig.root / "other").symlink_to("thing")
        session.request_scan()
        rig.assert_equal()
        (rig.root / "other").unlink()
        rig.write("other", "now a file")
        shutil.rmtree(rig.root / "thing")
        session.request_scan()
        rig.assert_equal()


def test_odd_names_arrive_byte_by_byte(rig: Rig) -> None:
    for name in ["new\nline.py", "😀.py", "é.py", "e\u0301.py", " lead", "quote'\".py", "-rf"]:
        rig.write(name, name)
    with open(os.fsencode(rig.root) + b"/\xff.py", "wb"):  # noqa: PTH123 - the name is no text
        pass
    with rig.running() as session:
        session.request_scan()
        (rig.root / os.fsdecode(b"\xff.py")).unlink()
        rig.assert_equal()
    assert rig.of(events.NotSynced)[0].path == "\\xff.py"


def test_a_problem_is_told_once_and_again_if_it_comes_back(rig: Rig) -> None:
    rig.write("a.py")
    os.mkfifo(rig.root / "pipe")
    with rig.running() as session:
        session.request_scan()
        session.request_scan()
        assert len(rig.of(events.NotSynced)) == 1
        (rig.root / "pipe").unlink()
        session.request_scan()
        os.mkfifo(rig.root / "pipe")
        session.request_scan()
        assert len(rig.of(events.NotSynced)) == 2


def test_a_large_file_travels(rig: Rig) -> None:
    with (rig.root / "large.bin").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    with rig.running() as session:
        session.request_scan()
        assert (rig.current / "large.bin").stat().st_size == 200 * 1024 * 1024
        rig.assert_equal()


def test_five_thousand_files_at_once(rig: Rig) -> None:
    rig.write("first.py")
    with rig.running() as session:
        session.request_scan()
        for number in range(5000):
            rig.write(f"d{number % 50}/f{number}.py", f"x = {number}")
        session.request_scan()
        rig.assert_equal()


def test_a_file_replaced_fifty_times_ends_equal(rig: Rig) -> None:
    file = rig.write("a.py", "0")
    with rig.running() as session:
        session.request_scan()
        for number in range(1, 51):
            fresh = rig.root / "a.py.new"
            fresh.write_text(str(number))
            fresh.replace(file)
            time.sleep(0.01)
        wait_until(lambda: (rig.current / "a.py").read_text() == "50", "the last version is there")
        session.request_scan()
        rig.assert_equal()


def test_a_branch_switch_is_one_batch(rig: Rig) -> None:
    for number in range(200):
        rig.write(f"f{number}.py", "old")
    # So long that this machine does not pause for it in the middle.
    with rig.running(times=SyncTimes(quiet=1.0, longest=30.0)) as session:
        session.request_scan()
        for number in range(200):
            (rig.root / f"f{number}.py").unlink()
            rig.write(f"f{number}.py", "new")
        rig.wait_equal()
    assert len(rig.of(events.Sent)) == 2


def test_emptying_the_folder_halts_and_files_resume(rig: Rig) -> None:
    file = rig.write("a.py", "x")
    with rig.running() as session:
        session.request_scan()
        file.unlink()
        assert "empty" in rig.wait_for(events.Halted).reason
        with pytest.raises(WindsockError, match="empty"):
            session.request_scan()
        assert (rig.current / "a.py").read_text() == "x"
        rig.write("b.py", "y")
        rig.wait_for(events.Resumed)
        session.request_scan()
        rig.assert_equal()


def test_an_empty_folder_can_be_meant(rig: Rig) -> None:
    rig.write("a.py", "x")
    with rig.running() as session:
        session.request_scan()
        (rig.root / "a.py").unlink()
        rig.wait_for(events.Halted)
        session.allow_empty()
        rig.wait_for(events.Sent, count=2)
        assert content_of(rig.current) == {}
        rig.write("b.py")
        session.request_scan()
        (rig.root / "b.py").unlink()
        rig.wait_for(events.Halted, count=2)


def test_a_folder_deleted_and_made_again_is_watched_again(rig: Rig) -> None:
    rig.write("a.py", "x")
    with rig.running() as session:
        session.request_scan()
        shutil.rmtree(rig.root)
        rig.wait_for(events.Halted)
        assert (rig.current / "a.py").read_text() == "x"
        rig.root.mkdir()
        rig.write("b.py", "y")
        rig.wait_for(events.Resumed)
        rig.wait_equal()
        rig.write("c.py", "z")
        wait_until((rig.current / "c.py").exists, "a save after the return is seen")


def test_a_folder_that_is_replaced_is_followed(rig: Rig) -> None:
    rig.write("a.py", "old")
    other = rig.root.parent / "other"
    other.mkdir()
    (other / "a.py").write_text("new")
    with rig.running() as session:
        session.request_scan()
        rig.root.rename(rig.root.parent / "away")
        other.rename(rig.root)
        wait_until(lambda: (rig.current / "a.py").read_text() == "new", "the new folder is there")
        rig.write("b.py")
        wait_until((rig.current / "b.py").exists, "the new folder is watched")


def test_the_rules_change_while_it_runs(rig: Rig) -> None:
    rig.write("a.py", "x")
    rig.write("data.csv", "1")
    with rig.running() as session:
        session.request_scan()
        rig.write(".windsockignore", "*.csv\n")
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py"}
        rig.write(".windsockignore", "!\n")
        session.request_scan()
        assert set(content_of(rig.current)) == {"a.py"}
        assert "line 1" in rig.of(events.NotSynced)[0].reason
        (rig.root / ".windsockignore").unlink()
        session.request_scan()
        rig.assert_equal()


def test_a_second_session_is_told_who_syncs(rig: Rig) -> None:
    rig.write("a.py")
    with rig.running() as first:
        first.request_scan()
        with (
            pytest.raises(StoreBusy) as busy,
            rig.running() as second,
            pytest.raises(EnvironmentFailure),
        ):
            second.request_scan()
        assert busy.value.holder["pid"] == rig.of(events.Connected)[0].pid
        rig.write("b.py")
        first.request_scan()
        rig.assert_equal()


def has_ended(session: SyncSession) -> bool:
    try:
        session.request_scan(timeout=0.0)
    except EnvironmentFailure:
        return True
    except DeadlineExceeded:
        pass
    return False


def test_a_session_can_take_the_store_over(rig: Rig) -> None:
    rig.write("a.py")
    with pytest.raises(EnvironmentFailure, match="taken"), rig.running() as first:  # noqa: PT012 - two sessions
        first.request_scan()
        with rig.running(take_over=True) as second:
            rig.write("b.py")
            second.request_scan()
            rig.assert_equal()
            wait_until(lambda: has_ended(first), "the first session has ended")


def test_a_barrier_that_cannot_be_met_says_why(rig: Rig) -> None:
    def fail() -> Transport:
        raise EnvironmentFailure("no way")

    with rig.running(connect=fail) as session:
        rig.wait_for(events.Disconnected)
        with pytest.raises(DeadlineExceeded, match="no way"):
            session.request_scan(timeout=0.2)


def test_a_barrier_that_has_become_hopeless_ends_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Transport:
        raise EnvironmentFailure("no way")

    def give_up() -> None:
        raise EnvironmentFailure("the pod ends again and again")

    monkeypatch.setattr(session_module, "CHECK_SECONDS", 0.01)
    with (
        rig.running(connect=fail) as session,
        pytest.raises(EnvironmentFailure, match="the pod ends again"),
    ):
        session.request_scan(timeout=10**6, check=give_up)


def test_after_the_end_nobody_waits(rig: Rig) -> None:
    with rig.running() as session:
        session.request_scan()
    with pytest.raises(EnvironmentFailure, match="ended"):
        session.request_scan()


def test_a_store_that_is_equal_is_left_alone(rig: Rig) -> None:
    rig.write("a.py")
    with rig.running() as session:
        session.request_scan()
    with rig.running() as session:
        session.request_scan()
    assert len(rig.of(events.Sent)) == 1
    assert len(rig.of(events.CaughtUp)) == 2


def test_a_store_changed_behind_our_back_is_repaired(rig: Rig) -> None:
    rig.write("a.py", "right")
    rig.write("b.py", "right")
    with rig.running() as session:
        session.request_scan()
    snapshot = rig.current.resolve()
    (snapshot / "a.py").write_text("wrong, and of another size")
    with rig.running() as session:
        session.request_scan()
        rig.assert_equal()
