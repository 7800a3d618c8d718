from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock import events
from windsock.sync_process.state import SAVES_REMEMBERED, SyncState

if TYPE_CHECKING:
    from windsock.events import Event


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A state with its clock, and what it published."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.published: list[Event] = []
        self.state = SyncState(self.published.append, clock=self.clock)

    def take(self, *these: Event) -> Rig:
        for event in these:
            self.state.take(event)
        return self

    @property
    def last(self) -> Any:
        return self.published[-1]


def sent(snapshot: str, *paths: str, seconds: float = 0.02) -> events.Sent:
    return events.Sent(
        snapshot=snapshot, paths=paths, count=len(paths), bytes=3, since_save=seconds
    )


def parsing(snapshot: str, *files: str) -> events.Parsing:
    return events.Parsing(snapshot=snapshot, files=files)


def parsed(snapshot: str, file: str, *dags: str, error: str = "") -> events.Parsed:
    return events.Parsed(
        snapshot=snapshot,
        file=file,
        dags=dict.fromkeys(dags, 2),
        errors={file: error} if error else {},
        seconds=0.1,
    )


def settled(snapshot: str) -> events.Settled:
    return events.Settled(snapshot=snapshot, seconds=0.1)


def removed(snapshot: str, file: str, *dags: str) -> events.Removed:
    return events.Removed(snapshot=snapshot, file=file, dags=dags)


def greeting(
    snapshot: str | None, *files: events.Parsed, awaited: tuple[str, ...] = ()
) -> events.ProcessorState:
    return events.ProcessorState(snapshot=snapshot, awaited=awaited, files=files)


def connected(snapshot: str | None = None, *, again: bool = False) -> events.Connected:
    return events.Connected(snapshot=snapshot, pid=1, again=again)


def caught_up(snapshot: str) -> events.CaughtUp:
    return events.CaughtUp(snapshot=snapshot)


CUT = events.Disconnected(reason="cut", retry=1)
EMPTY = events.Halted(reason="the folder is empty")
FULL = events.Refused(code="no_space", message="the disk is full", retry=1)
ANNA = events.Busy(reason="anna@laptop syncs here", hint="Ask.")


@pytest.fixture
def rig() -> Rig:
    return Rig().take(connected("old"))


def test_a_save_is_published_from_sent_to_settled_with_its_age(rig: Rig) -> None:
    save = sent("new", "a.py", seconds=0.02)
    rig.take(save)
    assert rig.last == save
    rig.clock.now += 0.08
    rig.take(parsing("new", "a.py"), parsed("new", "a.py", "sales"), settled("new"))
    assert [type(event) for event in rig.published[1:]] == [
        events.Parsing,
        events.Parsed,
        events.Settled,
    ]
    assert rig.last.since_save == pytest.approx(0.1)
    assert rig.state.as_json()["settled"] is True
    assert rig.state.as_json()["dags"] == ["sales"]


def test_a_snapshot_that_is_parsed_again_is_not_settled_meanwhile(rig: Rig) -> None:
    """As after a change of the sync's own settings, or a stock parse by the clock."""
    rig.take(settled("old"), parsing("old", "a.py"))
    assert rig.state.as_json()["settled"] is False
    assert rig.state.as_json()["awaited"] == ["a.py"]
    assert "being parsed (0 of 1 files)" in rig.state.as_json()["summary"]
    rig.take(parsed("old", "b.py", "sales"))
    assert "being parsed (1 of 2 files)" in rig.state.as_json()["summary"]
    rig.take(settled("old"))
    assert rig.state.as_json()["settled"] is True


def test_a_snapshot_that_nobody_saved_has_no_age(rig: Rig) -> None:
    rig.take(settled("old"))
    assert rig.last.since_save is None


def test_saves_long_ago_are_forgotten(rig: Rig) -> None:
    for number in range(SAVES_REMEMBERED + 1):
        rig.take(sent(str(number)))
    rig.take(settled("0"))
    assert rig.last.since_save is None
    rig.take(settled("1"))
    assert rig.last.since_save is not None


def test_an_error_is_news_once(rig: Rig) -> None:
    news = []
    for error in ("", "broken", "broken", "otherwise", "", ""):
        rig.take(parsed("x", "a.py", error=error))
        news.append(rig.last.news)
    assert news == [False, True, False, True, True, False]


def test_the_state_names_errors_until_their_file_imports_or_goes(rig: Rig) -> None:
    rig.take(parsed("x", "a.py", error="no a"), parsed("x", "b.py", error="no b"))
    assert rig.state.as_json()["errors"] == {"a.py": "no a", "b.py": "no b"}
    assert "2 files do not import" in rig.state.as_json()["summary"]
    rig.take(parsed("x", "a.py", "a"))
    rig.take(removed("x", "b.py"))
    assert rig.state.as_json()["errors"] == {}


def test_a_restarted_processor_replaces_what_was_known(rig: Rig) -> None:
    rig.take(parsed("old", "gone.py", "gone"), settled("old"))
    rig.take(greeting("old", parsed("old", "a.py", "a"), awaited=("a.py",)))
    state = rig.state.as_json()
    assert (state["dags"], state["awaited"], state["settled"]) == (["a"], ["a.py"], False)
    rig.take(settled("old"))
    assert rig.state.as_json()["settled"] is True


def test_what_cannot_be_known_any_more_is_not_called_settled(rig: Rig) -> None:
    for lost in (
        CUT,
        events.ProcessorConnection(connected=False),
    ):
        rig.take(connected("old"), settled("old"))
        assert rig.state.as_json()["settled"] is True
        rig.take(lost)
        assert rig.state.as_json()["settled"] is False


def test_an_empty_store_is_not_called_settled() -> None:
    rig = Rig().take(connected(None), greeting(None))
    assert rig.state.as_json()["settled"] is False


def test_every_trouble_is_published_and_shown(rig: Rig) -> None:
    rig.take(events.NotSynced(path="x.sock", reason="a socket"))
    assert rig.state.as_json()["problems"] == {"x.sock": "a socket"}
    rig.take(EMPTY)
    assert rig.state.as_json()["summary"] == "sync halted: the folder is empty"
    rig.take(events.Resumed())
    assert rig.state.as_json()["halted"] == ""
    rig.take(FULL, events.Note(message="looking every second"), CUT)
    assert rig.state.as_json()["summary"] == "sync: not connected: cut"
    rig.take(connected("old", again=True))
    assert [events.type_of(type(event)) for event in rig.published] == [
        "not-synced",
        "halted",
        "resumed",
        "refused",
        "note",
        "disconnected",
        "connected",
    ]


def test_the_summary_counts_what_is_not_synced_and_saves_still_count_as_healthy(rig: Rig) -> None:
    rig.take(caught_up("old"), settled("old"))
    assert rig.state.as_json()["summary"] == "sync: in step with the folder; 0 DAGs parsed"
    rig.take(events.NotSynced(path="x.sock", reason="a socket"))
    told = "sync: in step with the folder, but 1 path is not synced; 0 DAGs parsed"
    assert rig.state.as_json()["summary"] == told
    rig.take(events.NotSynced(path="far.py", reason="it leads outside"))
    assert "but 2 paths are not synced" in rig.state.as_json()["summary"]
    assert rig.state.as_json()["healthy"] is True
    rig.take(events.SyncedAgain(path="x.sock"), events.SyncedAgain(path="far.py"))
    assert "not synced" not in rig.state.as_json()["summary"]


def test_the_first_connection_is_no_news() -> None:
    assert Rig().take(connected("old")).published == []


def test_a_cut_is_news_once_for_each_reason_and_then_how_far_behind_we_are() -> None:
    rig = Rig()
    rig.take(connected("old"), events.Behind(count=24), caught_up("new"))
    no_pod = events.Disconnected(reason="no pod is ready", retry=1)
    rig.take(CUT, no_pod, no_pod, no_pod)
    rig.take(connected("new", again=True), events.Behind(count=3), caught_up("newer"))
    rig.take(events.Behind(count=1), caught_up("newest"))  # after a refusal
    assert rig.published == [
        CUT,
        no_pod,
        connected("new", again=True),
        events.Behind(count=3),
        caught_up("newer"),
    ]


def test_a_first_connection_after_an_outage_is_news() -> None:
    assert Rig().take(CUT, connected("old")).last == connected("old")


def test_somebody_else_who_syncs_is_shown_until_we_are_connected() -> None:
    rig = Rig().take(connected("old"), ANNA)
    assert rig.last == ANNA
    state = rig.state.as_json()
    assert (state["connected"], state["busy"]) == (False, "anna@laptop syncs here")
    assert state["summary"] == "sync: anna@laptop syncs here. Ask."
    assert rig.state.take_over() == "anna@laptop syncs here"
    assert not rig.state.wait_connected(timeout=0)
    rig.take(connected("new"))
    assert rig.last == connected("new")
    assert rig.state.wait_connected(timeout=0)
    assert rig.state.take_over() == ""


def test_what_a_session_found_is_forgotten_when_somebody_else_syncs(rig: Rig) -> None:
    rig.take(events.NotSynced(path="x.sock", reason="a socket"), EMPTY, ANNA)
    rig.state.take_over()
    rig.take(events.NotSynced(path="y.sock", reason="a socket"), connected("old"), caught_up("new"))
    state = rig.state.as_json()
    assert (state["halted"], list(state["problems"])) == ("", ["y.sock"])


def test_what_stops_saves_is_the_state_until_it_is_over(rig: Rig) -> None:
    assert rig.state.as_json()["troubles"] == []
    assert rig.state.as_json()["healthy"] is True
    rig.take(events.Behind(count=3))
    state = rig.state.as_json()
    assert state["summary"] == "sync: behind by 3 files"
    assert state["healthy"] is True  # It is on its way.
    rig.take(FULL)
    state = rig.state.as_json()
    assert state["summary"] == "sync: the last save could not be stored: the disk is full"
    assert state["healthy"] is False
    assert [each["type"] for each in state["troubles"]] == ["refused", "behind"]
    rig.take(sent("new"), caught_up("new"))
    state = rig.state.as_json()
    assert (state["troubles"], state["healthy"]) == ([], True)
    assert "in step" in state["summary"]


def test_each_trouble_is_shown_as_it_was_published(rig: Rig) -> None:
    for event in (EMPTY, CUT, ANNA):
        rig.take(event)
        assert events.to_json(rig.last) in rig.state.as_json()["troubles"]
        assert rig.state.as_json()["healthy"] is False
    types = [each["type"] for each in rig.state.as_json()["troubles"]]
    assert types == ["busy"]  # Who is busy is not connected; that goes without saying.


def test_what_was_parsed_during_a_cut_is_published_after_it(rig: Rig) -> None:
    untouched = parsed("old", "b.py", "b")
    rig.take(greeting("old", parsed("old", "a.py", "a"), untouched))
    assert rig.published == []
    rig.take(CUT, connected("new", again=True), sent("new", "a.py"))
    rig.take(greeting("new", parsed("new", "a.py", error="no module"), untouched))
    told, whole = rig.published[-2:]
    assert isinstance(told, events.Parsed)
    assert (told.file, told.snapshot, told.news) == ("a.py", "new", True)
    assert isinstance(whole, events.Settled)
    assert told.since_save == whole.since_save is not None
    assert rig.state.as_json()["settled"] is True


# --- waiting --------------------------------------------------------------------------------------


def wait(rig: Rig, snapshot: str) -> tuple[threading.Thread, list[bool]]:
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(rig.state.wait_settled(snapshot, timeout=1000)), daemon=True
    )
    thread.start()
    return thread, answers


def test_who_waits_is_woken_by_the_settling(rig: Rig) -> None:
    rig.take(sent("new"))
    thread, answers = wait(rig, "new")
    rig.take(parsing("new", "a.py"), parsed("new", "a.py"))
    assert answers == []
    rig.take(settled("new"))
    thread.join(20)
    assert answers == [True]


def test_who_waits_is_woken_when_the_store_moves_on(rig: Rig) -> None:
    rig.take(sent("new"))
    thread, answers = wait(rig, "new")
    rig.take(sent("newer"))
    thread.join(20)
    assert answers == [False]


def test_waiting_ends_with_its_time(rig: Rig) -> None:
    rig.take(sent("new"))
    assert rig.state.wait_settled("new", timeout=0.0) is False


snapshots = st.sampled_from(["old", "s1", "s2", "s3"])
files = st.sampled_from(["a.py", "b.py", "c.py"])
any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(connected, snapshots | st.none(), again=st.booleans()),
    st.builds(sent, snapshots, files),
    st.builds(caught_up, snapshots),
    st.builds(lambda path: events.NotSynced(path=path, reason="odd"), files),
    st.sampled_from([CUT, EMPTY, FULL, ANNA, events.Resumed()]),
    st.builds(lambda on: events.ProcessorConnection(connected=on), st.booleans()),
    st.builds(parsing, snapshots, files),
    st.builds(parsed, snapshots, files, files, error=st.sampled_from(["", "x", "y"])),
    st.builds(settled, snapshots),
    st.builds(
        lambda snapshot, awaited: greeting(snapshot, awaited=tuple(awaited)),
        snapshots | st.none(),
        st.lists(files),
    ),
    st.builds(removed, snapshots, files, st.just("x")),
)


@settings(max_examples=50)
@given(st.lists(any_event, max_size=30))
def test_whatever_happens_only_what_is_known_is_claimed(these: list[Event]) -> None:
    rig = Rig()
    for event in these:
        rig.take(event)
        state = rig.state.as_json()
        json.dumps(state)  # All of it goes over the socket.
        if state["settled"]:
            assert state["awaited"] == []
            assert state["snapshot"] == rig.state.settled
            assert rig.state.wait_settled(state["snapshot"], timeout=0)
        if isinstance(event, events.Parsing):
            assert not state["settled"]
        if isinstance(event, events.Disconnected):
            assert not state["settled"]
            assert not state["connected"]


@settings(max_examples=50)
@given(st.lists(any_event, max_size=30), snapshots)
def test_after_any_past_a_save_that_is_parsed_whole_counts_as_settled(
    past: list[Event], snapshot: str
) -> None:
    rig = Rig().take(*past)
    rig.take(
        connected(snapshot, again=True),
        sent(snapshot, "a.py"),
        parsing(snapshot, "a.py"),
        parsed(snapshot, "a.py", "sales"),
        settled(snapshot),
    )
    assert rig.state.wait_settled(snapshot, timeout=0)
    assert rig.state.as_json()["settled"] is True
    assert "sales" in rig.state.as_json()["dags"]


# --- components that fail -------------------------------------------------------------------------

FAILING = events.ComponentFailing(component="dag-processor", message="it ends", hint="see its log")


def test_a_dag_processor_that_fails_ends_the_wait_and_is_a_trouble() -> None:
    state = SyncState(lambda _: None)
    state.take(FAILING)
    assert not state.wait_settled("0f" * 16, timeout=60)
    shown = state.as_json()
    assert shown["failing"] == ["dag-processor"]
    assert shown["summary"] == "it ends"
    assert events.to_json(FAILING) in shown["troubles"]

    state.take(events.ComponentRecovered(component="dag-processor"))
    assert state.as_json()["failing"] == []


def test_one_that_lives_for_minutes_between_its_ends_is_waited_for() -> None:
    state = SyncState(lambda _: None)
    snapshot = "0f" * 16
    state.take(FAILING)
    assert state.hopeless == FAILING
    state.take(events.ProcessorConnection(connected=True))
    assert state.hopeless is None
    state.take(settled(snapshot))
    assert state.wait_settled(snapshot, timeout=0)
    state.take(events.ProcessorConnection(connected=False))
    assert state.hopeless == FAILING
