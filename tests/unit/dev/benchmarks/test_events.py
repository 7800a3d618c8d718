from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from dev.benchmarks.events import (
    BROKEN_LINE,
    DELETED,
    NEW,
    USERS,
    Events,
    Folder,
    Timeouts,
    gone,
    over_a_refresh,
    repeat,
    user,
)
from dev.benchmarks.observer import Interrupted, Observer
from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FolderObserver(Observer):
    """Sees the folder itself, as an Airflow would that parses without any delay."""

    def __init__(self, folder: Path) -> None:
        super().__init__("http://127.0.0.1:1", "admin", "secret")
        self._folder = folder

    def another(self) -> FolderObserver:
        other = FolderObserver(self._folder)
        other._stop = self._stop
        return other

    def lists(self, dag_id: str) -> bool:
        return (self._folder / f"{dag_id}.py").exists()

    def has_task(self, dag_id: str, task_id: str) -> bool:
        name = "bench_helper" if dag_id == user(0) or dag_id.startswith("bench_user") else dag_id
        return task_id in (self._folder / f"{name}.py").read_text()

    def has_import_error(self, file: str, text: str) -> bool:
        return text in (self._folder / file).read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "dags")
    made.fill()
    return made


@pytest.fixture
def observer(folder: Folder) -> Iterator[FolderObserver]:
    with FolderObserver(folder.path) as made:
        yield made


@pytest.fixture
def events(folder: Folder, observer: Observer) -> Events:
    return Events(folder, observer, Timeouts(edit=2, listing=2, run=2))


def test_every_event_is_seen_and_leaves_the_folder_as_it_was(
    folder: Folder, events: Events
) -> None:
    names = sorted(path.name for path in folder.path.iterdir())
    for event in (events.edit, events.broken, events.helper):
        assert event() < 2
    assert events.new("bench_new_1") < 2
    assert events.deleted("bench_new_1") < 2
    assert sorted(path.name for path in folder.path.iterdir()) == names
    assert "missing" not in (folder.path / "bench_broken.py").read_text()


def test_files_are_the_dags_that_are_told(folder: Folder) -> None:
    files = {path.stem for path in folder.path.glob("*.py")} - {"bench_helper"}
    assert files == set(folder.dag_ids())
    assert sum(name.startswith("bench_user") for name in files) == USERS
    for path in folder.path.glob("*.py"):
        compile(path.read_text(), path.name, "exec")


def test_a_broken_file_breaks_at_the_line_that_is_waited_for(
    folder: Folder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_repair", lambda: None)
    events.broken()
    *before, broken = (folder.path / "bench_broken.py").read_text().splitlines()
    assert len(before) + 1 == BROKEN_LINE
    with pytest.raises(NameError) as caught:
        exec(compile("\n" * len(before) + broken, "bench_broken.py", "exec"))  # noqa: S102 - ours
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == BROKEN_LINE


def test_what_is_never_seen_is_a_failure_and_given_up_after_two() -> None:
    tries = 0

    def event() -> float:
        nonlocal tries
        tries += 1
        if tries > 1:
            raise DeadlineExceeded("not seen")
        return 0.5

    assert repeat(event, times=9, between=lambda: None) == ((0.5,), ("not seen", "not seen"))
    assert tries == 3


def test_listing_is_measured_in_the_background(
    folder: Folder, events: Events, observer: Observer
) -> None:
    for number in range(2):
        folder.save_dag(gone(number))
    with over_a_refresh(events, observer, samples=2, period=0.02) as collect:
        taken = collect()
    assert [len(taken[what][0]) for what in (NEW, DELETED)] == [2, 2]
    assert not observer.lists(gone(0))


def test_background_ends_with_an_interrupt(events: Events, observer: Observer) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        over_a_refresh(events, observer, samples=1, period=3600),
    ):
        raise KeyboardInterrupt
    assert not observer.lists("bench_came_0")


def test_a_wait_ends_at_its_deadline_or_when_interrupted(observer: Observer) -> None:
    with pytest.raises(DeadlineExceeded, match="the moon: not seen"):
        observer.seconds_until(lambda: False, what="the moon", timeout=0)
    observer.interrupt()
    with pytest.raises(Interrupted):
        observer.seconds_until(lambda: False, what="the moon", timeout=60)
