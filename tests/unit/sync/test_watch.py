from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windsock.sync import watch
from windsock.sync.rules import Rules
from windsock.sync.tree import scan
from windsock.sync.watch import ABSENT, CHECK, POLL, Hints, InotifyBackend, ObserverBackend, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    assert hints.remaining() is None
    hints.note("a.py")
    assert hints.remaining() == pytest.approx(0.015)
    clock.now += 0.01
    hints.note("b.py")
    assert hints.remaining() == pytest.approx(0.015)
    clock.now += 0.02
    assert hints.remaining() == 0.0
    wake = hints.wait(0.0)
    assert wake is not None
    assert (wake.since, wake.paths) == (100.0, frozenset({"a.py", "b.py"}))
    assert hints.wait(0.0) is None


def test_hints_that_never_stop_wake_all_the_same() -> None:
    clock = Clock()
    hints = Hints(quiet=0.015, longest=0.5, clock=clock)
    for _ in range(51):
        hints.note("busy.log")
        clock.now += 0.01
    wake = hints.wait(0.0)
    assert wake is not None
    assert wake.since == 100.0


def test_a_hint_without_a_path_means_anything_and_so_do_too_many() -> None:
    hints = Hints(quiet=0.0, longest=0.5, clock=Clock())
    hints.note("a.py")
    hints.note(None)
    hints.note("b.py")
    assert hints.take().paths is None
    for number in range(100):
        hints.note(str(number))
    assert hints.take().paths is None
    hints.note("c.py")
    assert hints.take().paths == frozenset({"c.py"})


def test_a_nudge_wakes_at_once_and_from_another_thread() -> None:
    hints = Hints(quiet=10.0, longest=10.0)
    hints.note("a.py")
    thread = threading.Thread(target=hints.nudge)
    thread.start()
    wake = hints.wait(DEADLINE)
    thread.join()
    assert wake is not None
    assert wake.paths is None, "whoever nudges wants a look at everything"


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
def backend(tmp_path: Path, hints: Counted) -> Iterator[InotifyBackend]:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git/objects").mkdir(parents=True)
    backend = InotifyBackend(tmp_path, RULES, hints)
    backend.start()
    yield backend
    backend.stop()


@pytest.mark.usefixtures("backend")
def test_a_saved_file_is_told_by_name(tmp_path: Path, hints: Counted) -> None:
    (tmp_path / "sub/a.py").write_text("x")
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py"})
    (tmp_path / "sub/a.py").chmod(0o600)
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py"})
    (tmp_path / "sub/a.py").rename(tmp_path / "b.py")
    hints.wait_for(lambda paths: set(paths) == {"sub/a.py", "b.py"})
    (tmp_path / "b.py").unlink()
    hints.wait_for(lambda paths: set(paths) == {"b.py"})


@pytest.mark.usefixtures("backend")
def test_a_file_moved_away_is_told_at_once(tmp_path: Path, hints: Counted) -> None:
    # watchdog's own observer holds it, and all after it, back for half a second.
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (tmp_path / "a.py").write_text("x")
    hints.wait_for(lambda paths: "a.py" in paths)
    (tmp_path / "a.py").rename(outside)
    hints.wait_for(lambda paths: "a.py" in paths)
    outside.unlink()


@pytest.mark.usefixtures("backend")
def test_reading_and_ignored_files_wake_nobody(tmp_path: Path, hints: Counted) -> None:
    (tmp_path / "sub/a.py").write_text("x")
    hints.wait_for(lambda paths: "sub/a.py" in paths)
    scan(tmp_path, RULES)
    (tmp_path / ".git/objects/x").write_text("x")
    (tmp_path / ".git/index").write_text("x")
    (tmp_path / "sub/.a.py.swp").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    (tmp_path / "end").write_text("x")
    hints.wait_for(lambda paths: "end" in paths and set(paths) <= {"end", "sub/a.py"})


@pytest.mark.usefixtures("backend")
def test_new_and_moved_folders_are_watched(tmp_path: Path, hints: Counted) -> None:
    (tmp_path / "new/deep").mkdir(parents=True)
    hints.wait_for(lambda paths: None in paths)
    (tmp_path / "new/deep/a.py").write_text("x")
    hints.wait_for(lambda paths: "new/deep/a.py" in paths or None in paths)
    (tmp_path / "new").rename(tmp_path / "sub/moved")
    hints.wait_for(lambda paths: paths.count(None) >= 2)
    (tmp_path / "sub/moved/deep/a.py").write_text("y")
    hints.wait_for(lambda paths: "sub/moved/deep/a.py" in paths)


@pytest.mark.usefixtures("backend")
def test_folders_that_come_and_go_quickly_end_up_watched(tmp_path: Path, hints: Counted) -> None:
    for _ in range(30):
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / "a").rename(tmp_path / "moved")
        (tmp_path / "moved/b/c").rmdir()
        (tmp_path / "moved/b").rmdir()
        (tmp_path / "moved").rmdir()
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "end").write_text("x")
    hints.wait_for(lambda paths: "end" in paths)
    (tmp_path / "a/b/c/x.py").write_text("x")
    hints.wait_for(lambda paths: "a/b/c/x.py" in paths)


def test_a_watcher_beside_another_wakes_that_one_with_its_own_paths(tmp_path: Path) -> None:
    for name in ("dags", "include"):
        (tmp_path / name).mkdir()
    watcher = Watcher(tmp_path / "dags")
    other = watcher.beside(tmp_path / "include", prefix="include/")
    other.arm(RULES)
    (tmp_path / "include" / "a.py").write_text("x")
    wake = watcher.wait(DEADLINE)
    other.stop()
    assert wake is not None
    assert wake.paths == frozenset({"include/a.py"})


def test_a_watch_whose_thread_died_is_made_anew(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    watcher.arm(RULES)
    backend = watcher._backend
    assert isinstance(backend, InotifyBackend)
    backend._inotify.stop()
    backend._inotify.join()
    assert watcher.arm(RULES) is False
    (tmp_path / "a.py").write_text("x")
    assert watcher.wait(DEADLINE) is not None
    watcher.stop()


@pytest.mark.usefixtures("backend")
def test_a_change_of_the_ignore_file_is_told(tmp_path: Path, hints: Counted) -> None:
    (tmp_path / ".windsockignore").write_text("x")
    hints.wait_for(lambda paths: None in paths)


@pytest.mark.usefixtures("backend")
def test_a_name_that_is_not_utf8_means_anything(tmp_path: Path, hints: Counted) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.py", "wb"):  # noqa: PTH123 - the name is no text
        pass
    hints.wait_for(lambda paths: None in paths)


def test_a_lost_queue_is_told_and_the_watch_made_anew(tmp_path: Path) -> None:
    made: list[InotifyBackend] = []

    def make(root: Path, rules: Rules, hint: Callable[[str | None], None]) -> InotifyBackend:
        made.append(InotifyBackend(root, rules, hint))
        return made[-1]

    watcher = Watcher(tmp_path, backend=make)
    assert watcher.arm(RULES) is False
    assert watcher.arm(RULES) is True
    made[0].on_queue_overflow()
    wake = watcher.wait(DEADLINE)
    assert wake is not None
    assert wake.paths is None
    assert watcher.arm(RULES) is False
    assert len(made) == 2
    watcher.stop()


class Failing:
    """A backend that the system refuses."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.broken = ""

    def start(self) -> None:
        raise OSError(self._number, os.strerror(self._number))

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_an_exhausted_limit_is_told_once_and_polled_around(tmp_path: Path, number: int) -> None:
    notes: list[str] = []
    watcher = Watcher(tmp_path, note=notes.append, backend=lambda *_: Failing(number))
    assert watcher.arm(RULES) is False
    assert watcher.arm(RULES) is False
    assert watcher.interval == POLL
    assert len(notes) == 1
    assert "sysctl" in notes[0]


def test_a_limit_reached_by_a_new_folder_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    made: list[InotifyBackend] = []

    def make(root: Path, rules: Rules, hint: Callable[[str | None], None]) -> InotifyBackend:
        made.append(InotifyBackend(root, rules, hint))
        return made[-1]

    watcher = Watcher(tmp_path, note=notes.append, backend=make)
    watcher.arm(RULES)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(made[0]._inotify, "add_callback", refuse)
    (tmp_path / "new").mkdir()
    assert watcher.wait(DEADLINE) is not None
    assert watcher.arm(RULES) is False
    assert watcher.interval == POLL
    assert "sysctl" in notes[0]
    watcher.stop()


def test_a_network_folder_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_read = Path.read_text

    def mounts(path: Path, *arguments: str, **options: str) -> str:
        if path == Path("/proc/self/mounts"):
            return f"/dev/x / ext4 rw 0 0\nhost {tmp_path} 9p rw 0 0\n"
        return really_read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", mounts)
    notes: list[str] = []
    watcher = Watcher(tmp_path, note=notes.append)
    assert watcher.arm(RULES) is False
    assert watcher.interval == POLL
    assert "9p" in notes[0]


def test_a_folder_that_goes_and_comes_is_watched_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    watcher = Watcher(root)
    watcher.arm(RULES)
    assert watcher.interval == CHECK
    root.rmdir()
    assert watcher.wait(DEADLINE) is not None
    watcher.arm(RULES)
    assert watcher.interval == ABSENT
    root.mkdir()
    watcher.arm(RULES)
    (root / "a.py").write_text("x")
    wake = watcher.wait(DEADLINE)
    assert wake is not None
    assert wake.paths == frozenset({"a.py"})
    watcher.stop()


def test_a_folder_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    watcher = Watcher(root)
    watcher.arm(RULES)
    root.rename(tmp_path / "away")
    other.rename(root)
    assert watcher.wait(DEADLINE) is not None
    assert watcher.arm(RULES) is False
    (root / "a.py").write_text("x")
    wake = watcher.wait(DEADLINE)
    assert wake is not None
    assert wake.paths == frozenset({"a.py"})
    watcher.stop()


def test_a_link_to_another_folder_and_other_rules_are_followed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
    (tmp_path / "root").symlink_to("one")
    watcher = Watcher(tmp_path / "root")
    watcher.arm(RULES)
    (tmp_path / "root").unlink()
    (tmp_path / "root").symlink_to("two")
    assert watcher.arm(RULES) is False
    (tmp_path / "two/a.py").write_text("x")
    wake = watcher.wait(DEADLINE)
    assert wake is not None
    assert wake.paths == frozenset({"a.py"})
    other = Rules((*RULES.lines, "data/"))
    assert watcher.arm(other) is False
    assert watcher.arm(other) is True
    (tmp_path / "two/data/x").write_text("ignored")
    (tmp_path / "two/b.py").write_text("x")
    wake = watcher.wait(DEADLINE)
    assert wake is not None
    assert wake.paths == frozenset({"b.py"})
    watcher.stop()


def test_the_observer_of_other_systems_hints_too(tmp_path: Path, hints: Counted) -> None:
    backend = ObserverBackend(tmp_path, RULES, hints)
    backend.start()
    (tmp_path / "a.pyc").write_text("x")
    (tmp_path / "a.py").write_text("x")
    hints.wait_for(lambda paths: None in paths)
    assert backend.broken == ""
    backend.stop()
    assert backend.broken


def test_stopping_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    watcher = Watcher(tmp_path)
    watcher.arm(RULES)
    assert threading.active_count() > before
    watcher.stop()
    deadline = time.monotonic() + DEADLINE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert watch.CHECK == CHECK
