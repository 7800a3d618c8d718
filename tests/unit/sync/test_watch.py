from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from windsock.sync import mounts
from windsock.sync.rules import Rules
from windsock.sync.scan import scan
from windsock.sync.watch import (
    ABSENT,
    CHECK,
    LIMIT,
    POLL,
    SWITCH_SECONDS,
    Hints,
    InotifyBackend,
    ObserverBackend,
    Wake,
    Watcher,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windsock.sync.watch import Backend

RULES = Rules()
DEADLINE = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_hints_wait_for_a_quiet_moment() -> None:
    clock = Clock()
    hints = Hints(quiet=0.015, longest=0.5, clock=clock)
    assert hints.wait(0.0) is None
    hints.note("a.py")
    clock.now += 0.01
    hints.note("b.py")
    clock.now += 0.01
    assert hints.wait(0.0) is None
    clock.now += 0.01
    assert hints.wait(0.0) == Wake(100.0, frozenset({"a.py", "b.py"}))
    assert hints.wait(0.0) is None


def test_a_branch_switch_is_awaited_but_not_for_ever() -> None:
    clock, switching = Clock(), [True]
    hints = Hints(quiet=0.015, longest=0.5, switching=lambda: switching[0], clock=clock)
    hints.note("a.py")
    clock.now += 1
    assert hints.wait(0.0) is None
    hints.note("b.py")
    switching[0] = False
    clock.now += 0.02
    assert hints.wait(0.0) == Wake(100.0, frozenset({"a.py", "b.py"}))
    switching[0] = True
    hints.note("a.py")
    clock.now += SWITCH_SECONDS
    assert hints.wait(0.0) is not None


def test_a_nudge_does_not_wait_for_a_branch_switch() -> None:
    hints = Hints(quiet=0.015, longest=0.5, switching=lambda: True, clock=Clock())
    hints.note("a.py")
    hints.nudge()
    assert hints.wait(0.0) is not None


def test_hints_that_never_stop_wake_all_the_same() -> None:
    clock = Clock()
    hints = Hints(quiet=0.015, longest=0.5, clock=clock)
    for _ in range(51):
        hints.note("busy.log")
        clock.now += 0.01
    assert hints.wait(0.0) == Wake(100.0, frozenset({"busy.log"}))


def test_a_hint_without_a_path_means_anything_and_so_do_too_many() -> None:
    hints = Hints(quiet=0.0, longest=0.5, clock=Clock())
    for path in ("a.py", None, "b.py"):
        hints.note(path)
    assert hints.wait(0.0) == Wake(100.0, None)
    for number in range(100):
        hints.note(str(number))
    assert hints.wait(0.0) == Wake(100.0, None)
    hints.note("c.py")
    assert hints.wait(0.0) == Wake(100.0, frozenset({"c.py"}))


def test_a_nudge_wakes_at_once_and_from_another_thread() -> None:
    clock = Clock()
    hints = Hints(quiet=10.0, longest=10.0, clock=clock)
    hints.note("a.py")
    thread = threading.Thread(target=hints.nudge)
    thread.start()
    # With a nudge everything is scanned.
    assert hints.wait(DEADLINE) == Wake(100.0, None)
    thread.join()


class Counted:
    """Hints, to be waited for."""

    def __init__(self) -> None:
        self.paths: list[str | None] = []
        self._condition = threading.Condition()

    def __call__(self, path: str | None) -> None:
        with self._condition:
            self.paths.append(path)
            self._condition.notify_all()

    def wait_for(self, wanted: Callable[[list[str | None]], bool]) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: wanted(self.paths), DEADLINE), self.paths
            self.paths.clear()


@pytest.fixture
def hints() -> Counted:
    return Counted()


@pytest.fixture
def watcher(tmp_path: Path, hints: Counted) -> Iterator[Watcher]:
    """Watches `tmp_path/dags`, in which there are two folders, one of them ignored."""
    (tmp_path / "dags/sub").mkdir(parents=True)
    (tmp_path / "dags/.git/objects").mkdir(parents=True)
    watcher = Watcher(tmp_path / "dags", hint=hints, note=print)
    watcher.watch(RULES)
    yield watcher
    watcher.stop()


@pytest.fixture
def root(tmp_path: Path, watcher: Watcher) -> Path:
    """The folder that is watched."""
    assert watcher.interval == CHECK
    return tmp_path / "dags"


def test_a_hint_names_the_file_that_changed(root: Path, hints: Counted) -> None:
    (root / "sub/a.py").write_text("x")
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py"})
    (root / "sub/a.py").chmod(0o600)
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py"})
    (root / "sub/a.py").rename(root / "b.py")
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py", "b.py"})
    (root / "b.py").unlink()
    hints.wait_for(lambda paths: set(paths) == {"b.py"})


def test_a_file_that_is_moved_away_delays_no_hint(root: Path, hints: Counted) -> None:
    (root / "a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)
    (root / "a.py").rename(root.parent / "backup")
    (root / "a.py").write_text("y")
    started = time.monotonic()
    hints.wait_for(lambda paths: "a.py" in paths)
    assert time.monotonic() - started < 0.4, "watchdog's own delay is 0.5 s"


def test_reading_and_ignored_files_cause_no_hint(root: Path, hints: Counted) -> None:
    (root / "sub/a.py").write_text("x")
    hints.wait_for(lambda paths: "sub/a.py" in paths)
    scan(root, RULES)
    (root / ".git/objects/x").write_text("x")
    (root / ".git/objects/folder").mkdir()
    (root / ".git/index").write_text("x")
    (root / "sub/.a.py.swp").write_text("x")
    (root / "__pycache__").mkdir()
    (root / "__pycache__/a.pyc").write_text("x")
    (root.parent / "sibling.py").write_text("x")
    (root / "end").write_text("x")
    hints.wait_for(lambda paths: "end" in paths and set(paths) <= {"end", "sub/a.py"})


def test_new_and_moved_folders_are_watched(root: Path, hints: Counted) -> None:
    for folder in ("new", "new/deep"):  # One after the other: each is watched before its hint.
        (root / folder).mkdir()
        hints.wait_for(lambda paths: None in paths)
    (root / "new/deep/a.py").write_text("x")
    hints.wait_for(lambda paths: "new/deep/a.py" in paths)
    (root / "new").rename(root / "sub/moved")
    hints.wait_for(lambda paths: paths.count(None) >= 2)  # It went, and it came.
    (root / "sub/moved/deep/a.py").write_text("y")
    hints.wait_for(lambda paths: "sub/moved/deep/a.py" in paths)


def test_folders_that_come_and_go_quickly_are_watched_in_the_end(
    root: Path, hints: Counted
) -> None:
    for _ in range(30):
        (root / "a/b/c").mkdir(parents=True)
        (root / "a").rename(root / "moved")
        (root / "moved/b/c").rmdir()
        (root / "moved/b").rmdir()
        (root / "moved").rmdir()
    (root / "a/b/c").mkdir(parents=True)
    (root / "end").write_text("x")
    hints.wait_for(lambda paths: "end" in paths)
    (root / "a/b/c/x.py").write_text("x")
    hints.wait_for(lambda paths: "a/b/c/x.py" in paths)


def test_the_ignore_file_and_a_name_that_is_not_utf8_mean_anything(
    root: Path, hints: Counted
) -> None:
    (root / ".windsockignore").write_text("x")
    hints.wait_for(lambda paths: None in paths)
    (root / "end").write_text("x")
    hints.wait_for(lambda paths: "end" in paths)
    with open(os.fsencode(root) + b"/\xff.py", "wb"):  # noqa: PTH123 - the name is no text
        pass
    hints.wait_for(lambda paths: None in paths)


class Scripted:
    """A backend that a test breaks, or that the system refuses."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self.broken = ""

    def start(self) -> None:
        if self._number:
            raise OSError(self._number, os.strerror(self._number))

    def stop(self) -> None:
        pass


def test_a_backend_that_misses_changes_is_replaced(tmp_path: Path, hints: Counted) -> None:
    made: list[Backend] = []

    def make(root: Path, rules: Rules, hint: Callable[[str | None], None]) -> Backend:
        made.append(InotifyBackend(root, rules, hint) if made else Scripted())
        return made[-1]

    watcher = Watcher(tmp_path, hint=hints, note=print, backend=make)
    assert watcher.watch(RULES) is False
    assert watcher.watch(RULES) is True
    made[0].broken = "events were lost"  # type: ignore[misc]
    assert watcher.watch(RULES) is False
    assert watcher.watch(RULES) is True
    (tmp_path / "a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)
    watcher.stop()


def test_lost_events_mean_anything_and_break_the_backend(tmp_path: Path, hints: Counted) -> None:
    backend = InotifyBackend(tmp_path, RULES, hints)
    backend.start()
    assert not backend.broken
    backend.on_queue_overflow()
    hints.wait_for(lambda paths: None in paths)
    assert backend.broken
    backend.stop()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_an_exhausted_limit_is_reported_once_and_the_folder_scanned_often(
    tmp_path: Path, hints: Counted, number: int
) -> None:
    notes: list[str] = []
    watcher = Watcher(tmp_path, hint=hints, note=notes.append, backend=lambda *_: Scripted(number))
    assert watcher.watch(RULES) is False
    assert watcher.watch(RULES) is False
    assert watcher.interval == POLL
    assert len(notes) == 1
    assert "sysctl" in notes[0]
    assert watcher.standing == notes[0]
    watcher.stop()
    assert watcher.standing == ""


def test_a_limit_that_a_new_folder_reaches_is_reported_too(tmp_path: Path, hints: Counted) -> None:
    backend = Scripted()
    notes: list[str] = []
    watcher = Watcher(tmp_path, hint=hints, note=notes.append, backend=lambda *_: backend)
    watcher.watch(RULES)
    assert watcher.watch(RULES) is True
    backend.broken = LIMIT
    assert watcher.watch(RULES) is False
    assert watcher.interval == POLL
    assert "sysctl" in notes[0]


def test_a_new_folder_that_cannot_be_watched_breaks_the_backend(
    tmp_path: Path, hints: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    backend = InotifyBackend(tmp_path, RULES, hints)
    backend.start()
    monkeypatch.setattr("watchdog.observers.inotify_c.InotifyFD.add_callback", refuse)
    (tmp_path / "new").mkdir()
    hints.wait_for(lambda paths: None in paths)
    assert backend.broken == LIMIT
    backend.stop()


def test_the_observer_of_other_systems_causes_hints_too(tmp_path: Path, hints: Counted) -> None:
    backend = ObserverBackend(tmp_path, RULES, hints)
    backend.start()
    (tmp_path / "a.pyc").write_text("x")
    (tmp_path / "a.py").write_text("x")
    hints.wait_for(lambda paths: None in paths)
    assert not backend.broken
    backend.stop()
    assert backend.broken


def test_a_network_folder_is_scanned_often(
    tmp_path: Path, hints: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="9p"),
        SimpleNamespace(mountpoint=f"{tmp_path}-other", fstype="ext4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    notes: list[str] = []
    watcher = Watcher(tmp_path, hint=hints, note=notes.append)
    assert watcher.watch(RULES) is False
    assert watcher.interval == POLL
    assert "9p" in notes[0]


@pytest.mark.parametrize(
    "fstype",
    ["virtiofs", "drvfs", "prl_fs", "fakeowner", "fuse.grpcfuse", "fuse.sshfs", "vboxsf", "nfs4"],
)
def test_file_systems_that_report_no_changes_are_known(fstype: str) -> None:
    assert mounts.is_silent(fstype)
    assert not mounts.is_silent("fuseblk")
    assert not mounts.is_silent("ext4")


def test_a_file_system_inside_the_folder_is_watched_or_scanned_often_unless_it_is_ignored(
    tmp_path: Path, hints: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path / ".git/x"), fstype="ext4"),
        SimpleNamespace(mountpoint=f"{tmp_path}..x", fstype="ext4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: places)
    notes: list[str] = []
    watcher = Watcher(tmp_path, hint=hints, note=notes.append)
    watcher.watch(RULES)
    assert watcher.watch(RULES) is True
    assert not watcher.is_elsewhere()
    places.append(SimpleNamespace(mountpoint=str(tmp_path / "sub"), fstype="ext4"))
    monkeypatch.setattr(mounts.MountChanges, "happened", lambda _: True)
    assert watcher.is_elsewhere()
    assert watcher.watch(RULES) is False
    assert not watcher.is_elsewhere()
    assert watcher.watch(RULES) is True
    assert (watcher.interval, notes, watcher.standing) == (CHECK, [], "")
    places.append(SimpleNamespace(mountpoint=str(tmp_path / "share"), fstype="9p"))
    assert watcher.is_elsewhere()
    assert watcher.watch(RULES) is False
    assert not watcher.is_elsewhere()
    assert watcher.watch(RULES) is False
    assert watcher.interval == POLL
    assert str(tmp_path / "share") in notes[0]
    assert watcher.standing == notes[0]
    places.pop()
    assert watcher.is_elsewhere()
    watcher.watch(RULES)
    assert (watcher.interval, watcher.standing) == (CHECK, "")
    watcher.stop()


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts")
def test_a_mount_is_noticed_when_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    changes = mounts.MountChanges()
    mount = ["mount", "-t", "tmpfs", "none", str(tmp_path / "sub")]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        assert changes.happened()
        assert not changes.happened()
        assert mounts.inner_mounts(tmp_path, RULES) == [(str(tmp_path / "sub"), "tmpfs")]
    finally:
        subprocess.run(["umount", str(tmp_path / "sub")], check=True)  # noqa: S607 - of the system
    assert changes.happened()
    assert mounts.inner_mounts(tmp_path, RULES) == []
    changes.close()


def test_a_link_that_is_swapped_is_elsewhere(tmp_path: Path, hints: Counted) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "dags").symlink_to("one")
    watcher = Watcher(tmp_path / "dags", hint=hints, note=print)
    watcher.watch(RULES)
    assert not watcher.is_elsewhere()
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "dags")
    assert watcher.is_elsewhere()
    assert not watcher.is_elsewhere()  # It is told once: a link that is cut looks only later.
    watcher.watch(RULES)
    assert not watcher.is_elsewhere()
    (tmp_path / "dags").unlink()
    assert watcher.is_elsewhere()
    assert not watcher.is_elsewhere()
    watcher.stop()


def test_a_folder_that_could_not_be_watched_for_a_moment_is_tried_again(
    tmp_path: Path, hints: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    really = os.scandir

    def fail(path: bytes) -> Any:
        if path.endswith(b"/sub"):
            raise OSError(errno.EIO, "Input/output error")
        return really(path)

    monkeypatch.setattr(os, "scandir", fail)
    watcher = Watcher(tmp_path, hint=hints, note=print)
    assert watcher.watch(RULES) is False
    assert watcher.watch(RULES) is False
    monkeypatch.setattr(os, "scandir", really)
    assert watcher.watch(RULES) is False
    assert watcher.watch(RULES) is True
    (tmp_path / "sub/a.py").write_text("x")
    hints.wait_for(lambda paths: "sub/a.py" in paths)
    watcher.stop()


def test_a_folder_that_goes_and_comes_is_watched_again(
    root: Path, watcher: Watcher, hints: Counted
) -> None:
    shutil.rmtree(root)
    hints.wait_for(lambda paths: None in paths)
    watcher.watch(RULES)
    assert watcher.interval == ABSENT
    root.mkdir()
    watcher.watch(RULES)
    (root / "a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)


def test_a_folder_that_was_replaced_is_noticed(
    root: Path, watcher: Watcher, hints: Counted
) -> None:
    other = root.parent / "other"
    other.mkdir()
    root.rename(root.parent / "away")
    other.rename(root)
    hints.wait_for(lambda paths: None in paths)
    assert watcher.watch(RULES) is False
    (root / "a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)


def test_a_link_to_another_folder_and_other_rules_are_followed(
    tmp_path: Path, hints: Counted
) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
    (tmp_path / "root").symlink_to("one")
    watcher = Watcher(tmp_path / "root", hint=hints, note=print)
    watcher.watch(RULES)
    (tmp_path / "root").unlink()
    (tmp_path / "root").symlink_to("two")
    assert watcher.watch(RULES) is False
    (tmp_path / "two/a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)
    other = Rules((*RULES.lines, "data/"))
    assert watcher.watch(other) is False
    assert watcher.watch(other) is True
    (tmp_path / "two/data/x").write_text("ignored")
    (tmp_path / "two/b.py").write_text("x")
    hints.wait_for(lambda paths: "b.py" in paths and "data/x" not in paths)
    watcher.stop()


def test_stopping_ends_all_threads(tmp_path: Path, hints: Counted) -> None:
    before = set(threading.enumerate())
    watcher = Watcher(tmp_path, hint=hints, note=print)
    watcher.watch(RULES)
    assert set(threading.enumerate()) > before
    watcher.stop()
    assert set(threading.enumerate()) <= before
