from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from windsock.airflow.polling import IDLE_SECONDS, UNLISTED_SECONDS, Poll, Polling
from windsock.airflow.records import Dag, ImportFailure
from windsock.errors import EnvironmentFailure
from windsock.events import Event, Parsed, ProcessorState, Removed, Settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD, NEW = "0" * 32, "f" * 32
DAG_FILE = "from airflow.sdk import dag"
MORNING = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


class StockAirflow:
    """An Airflow whose dag-processor parses all files when a test says so."""

    def __init__(self) -> None:
        self.now = MORNING
        self.files: dict[str, list[str] | str] = {}
        self.stored: dict[str, tuple[list[str] | str, str, datetime]] = {}
        self.closed = threading.Event()
        self.error: Exception | None = None

    def parse(self, snapshot: str, *names: str) -> None:
        """Store what these files hold, or all: DAG ids, or a traceback."""
        self.now += timedelta(seconds=2)
        for name in names or self.files:
            self.stored[name] = (self.files[name], snapshot, self.now)

    def dags(self) -> list[Dag]:
        if self.error is not None:
            raise self.error
        return [
            Dag(
                dag_id=dag_id,
                file=name,
                paused=False,
                stale=False,
                import_errors=False,
                bundle_version=snapshot,
                parsed=stamp,
                schedule=None,
            )
            for name, (content, snapshot, stamp) in self.stored.items()
            if not isinstance(content, str)
            for dag_id in content
        ]

    def import_errors(self) -> list[ImportFailure]:
        return [
            ImportFailure(
                file=name,
                traceback=content.replace("DAGS", f"/opt/store/snapshots/{snapshot}"),
                seen=stamp,
            )
            for name, (content, snapshot, stamp) in self.stored.items()
            if isinstance(content, str)
        ]

    def tasks(self, dag_id: str) -> list[str]:
        return ["task"] * len(dag_id)

    def close(self) -> None:
        self.closed.set()


class Rig:
    """A poll at a stock Airflow that has parsed two files of a snapshot, and told so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self.airflow = StockAirflow()
        self.poll = Poll(folder, clock=lambda: self.seconds)
        self.save("a.py", ["a"])
        self.save("b.py", ["bb"])
        self.poll.begin()
        self.poll.on_snapshot(OLD)
        self.greeting: list[Event] = []
        for _ in range(3):
            self.airflow.parse(OLD)
            self.greeting += self.look()

    def save(self, name: str, content: list[str] | str) -> None:
        (self.folder / name).write_text(DAG_FILE)
        self.airflow.files[name] = content

    def look(self) -> list[Event]:
        return self.poll.look(self.airflow)  # type: ignore[arg-type] # the edge that is faked

    def parsed(self, snapshot: str = NEW) -> list[Event]:
        """What is said until all files have been parsed three times."""
        said: list[Event] = []
        for _ in range(3):
            self.airflow.parse(snapshot)
            said += self.look()
        return said


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def parsed(file: str, snapshot: str = NEW, *, errors: Any = (), **dags: int) -> Parsed:
    return Parsed(snapshot=snapshot, file=file, dags=dags, errors=dict(errors), seconds=0)


def is_settled(event: Event, snapshot: str = NEW) -> bool:
    return isinstance(event, Settled) and event.snapshot == snapshot


def test_it_begins_with_what_is_there_and_settles_once_that_is_parsed_again(rig: Rig) -> None:
    state, settled = rig.greeting
    assert isinstance(state, ProcessorState)
    assert sorted(each.file for each in state.files) == list(state.awaited) == ["a.py", "b.py"]
    assert is_settled(settled, OLD)


def test_a_save_is_reported_when_it_is_parsed_for_certain(rig: Rig) -> None:
    rig.save("a.py", ["a", "aa"])
    rig.poll.on_snapshot(NEW, ["a.py"])
    assert rig.look() == []
    rig.airflow.parse(NEW, "a.py")  # Of before the turn, for all that anybody knows.
    assert rig.look() == []
    rig.airflow.parse(NEW, "a.py")
    assert rig.look() == [parsed("a.py", a=1, aa=2)]
    rig.airflow.parse(NEW)
    assert rig.look() == []
    rig.airflow.parse(NEW)
    [settled] = rig.look()
    assert is_settled(settled)


def test_a_save_that_breaks_a_file_is_reported_with_the_users_path_in_the_traceback(
    rig: Rig,
) -> None:
    rig.save("a.py", 'File "DAGS/a.py", line 1: no module')
    rig.poll.on_snapshot(NEW, ["a.py"])
    rig.airflow.stored["a.py"] = (rig.airflow.files["a.py"], OLD, rig.airflow.now)
    assert rig.look() == []  # Its traceback names the snapshot of before.
    told, settled = rig.parsed()
    trace = f'File "{rig.folder}/a.py", line 1: no module'
    assert told == parsed("a.py", errors={"a.py": trace})
    assert is_settled(settled)


def test_a_file_that_breaks_later_by_itself_is_reported_too(rig: Rig) -> None:
    rig.airflow.files["b.py"] = "the service does not answer"
    assert rig.parsed(OLD) == [parsed("b.py", OLD, errors={"b.py": "the service does not answer"})]


def test_a_dag_that_vanishes_with_its_file_or_from_it_is_reported(rig: Rig) -> None:
    rig.airflow.files["a.py"] = ["other"]
    (rig.folder / "b.py").unlink()
    del rig.airflow.files["b.py"], rig.airflow.stored["b.py"]
    rig.poll.on_snapshot(NEW, ["a.py"])
    said = rig.parsed()
    assert said[:-1] == [
        Removed(snapshot=NEW, file="b.py", dags=("bb",)),
        Removed(snapshot=NEW, file="a.py", dags=("a",)),
        parsed("a.py", other=5),
    ]


def test_a_removed_dag_that_airflow_still_lists_does_not_delay_the_others(rig: Rig) -> None:
    rig.save("a.py", ["other"])
    rig.airflow.stored["ghost"] = (["a"], OLD, MORNING)
    dags = rig.airflow.dags
    rig.airflow.dags = lambda: [  # type: ignore[method-assign] # both ids are in one file
        Dag(**{**vars(dag), "file": dag.file.replace("ghost", "a.py")} if dag.file else vars(dag))
        for dag in dags()
    ]
    rig.airflow.files["ghost"] = ["a"]
    rig.poll.on_snapshot(NEW, ["a.py"])
    said = []
    for _ in range(3):
        rig.airflow.parse(NEW, "a.py", "b.py")
        said += rig.look()
    assert is_settled(said[-1])


def test_a_new_file_is_waited_for_until_airflow_lists_it(rig: Rig) -> None:
    (rig.folder / "new.py").write_text(DAG_FILE)
    rig.poll.on_snapshot(NEW, ["new.py"])
    assert rig.parsed() == []
    rig.airflow.files["new.py"] = ["new"]
    assert [type(each) for each in rig.parsed()] == [Parsed, Settled]


def test_a_file_that_airflow_does_not_list_is_waited_for_only_a_while(rig: Rig) -> None:
    (rig.folder / "helper.py").write_text("# Not a DAG of Airflow.")
    (rig.folder / "names.py").write_text("NAME = 1")
    rig.poll.on_snapshot(NEW, ["helper.py", "names.py"])
    assert rig.parsed() == []
    rig.seconds += UNLISTED_SECONDS + 1
    assert [type(each) for each in rig.look()] == [Settled]


def test_the_files_that_are_there_at_the_beginning_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(DAG_FILE)
    airflow, poll = StockAirflow(), Poll(tmp_path)
    poll.begin()
    poll.on_snapshot(OLD)
    events = poll.look(airflow)  # type: ignore[arg-type] # the edge that is faked
    assert [type(event) for event in events] == [ProcessorState]


def test_it_looks_often_only_while_something_is_awaited(rig: Rig) -> None:
    assert not rig.poll.is_due()
    rig.poll.on_snapshot(NEW, ["a.py"])
    assert rig.poll.is_due()
    rig.parsed()
    assert not rig.poll.is_due()
    rig.seconds += IDLE_SECONDS
    assert rig.poll.is_due()


# --- the thread -----------------------------------------------------------------------------------


class Listening:
    """A polling, and what it published."""

    def __init__(self, folder: Path, client: Callable[[], StockAirflow]) -> None:
        self.published: list[Event] = []
        self.changed = threading.Condition()
        self.polling = Polling(
            Poll(folder),
            client=client,  # type: ignore[arg-type] # the edge that is faked
            publish=self._take,
            pause=0.01,
        )

    def _take(self, event: Event) -> None:
        with self.changed:
            self.published.append(event)
            self.changed.notify_all()

    def wait_settled(self, snapshot: str) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: any(is_settled(event, snapshot) for event in self.published), 20
            )


def test_it_begins_with_a_stock_dag_processor_and_ends_with_a_live_one(tmp_path: Path) -> None:
    airflow = StockAirflow()
    listening = Listening(tmp_path, lambda: airflow)
    polling = listening.polling
    assert polling.note == ""
    polling.on_snapshot(OLD)
    assert polling.begin(("fetch_callbacks",))
    assert "lacks fetch_callbacks" in polling.note
    listening.wait_settled(OLD)
    assert not polling.begin(("fetch_callbacks",))
    polling.end()
    assert polling.note == ""
    polling.stop()
    assert airflow.closed.wait(20)


def test_an_airflow_that_does_not_answer_yet_is_asked_again(tmp_path: Path) -> None:
    airflow = StockAirflow()
    listening = Listening(tmp_path, lambda: airflow)
    airflow.error = EnvironmentFailure("it is just starting")
    listening.polling.begin(())
    assert airflow.closed.wait(20)
    assert listening.published == []
    airflow.error = None
    listening.polling.on_snapshot(OLD)
    listening.wait_settled(OLD)
    assert isinstance(listening.published[0], ProcessorState)
    listening.polling.stop()
