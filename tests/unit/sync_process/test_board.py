from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.sync import events
from windsock.sync.tree import Difference, Entry, Tree, difference
from windsock.sync_process.board import PATHS_TOLD, SAVES_REMEMBERED, Board

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A board with its clock, and what it told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[Message] = []
        self.board = Board(self.told.append, clock=self.clock)

    def take(self, *these: events.Event | Message) -> Rig:
        for event in these:
            self.board.take(
                event if not isinstance(event, dict) else events.ProcessorMessage(message=event)
            )
        return self

    @property
    def last(self) -> Message:
        return self.told[-1]


def changes(paths: Iterable[str]) -> Difference:
    entry = Entry(kind="file", mode=0o644, size=1, value="0" * 32)
    return difference(Tree({}), Tree(dict.fromkeys(paths, entry)))


def sent(tree: str, *paths: str, seconds: float = 0.02) -> events.Sent:
    return events.Sent(
        batch=1,
        tree=tree,
        difference=changes(paths or ("a.py",)),
        content_bytes=3,
        seconds=seconds,
        store_seconds=0.001,
    )


def parsing(snapshot: str, *files: str) -> Message:
    return {"type": "parsing", "snapshot": snapshot, "files": list(files)}


def parsed(snapshot: str, file: str, *dags: str, error: str = "") -> Message:
    return {
        "type": "parsed",
        "snapshot": snapshot,
        "file": file,
        "dags": dict.fromkeys(dags, 2),
        "errors": {file: error} if error else {},
        "seconds": 0.1,
    }


def settled(snapshot: str | None) -> Message:
    return {"type": "settled", "snapshot": snapshot, "seconds": 0.1}


def connected(tree: str | None = None, *, again: bool = False) -> events.Connected:
    return events.Connected(tree=tree, pid=1, again=again)


@pytest.fixture
def rig() -> Rig:
    return Rig().take(connected("old"))


def test_a_save_is_told_from_sent_to_settled_with_its_age(rig: Rig) -> None:
    rig.take(sent("new", "a.py", seconds=0.02))
    assert rig.last == {
        "type": "sent",
        "snapshot": "new",
        "paths": ["a.py"],
        "count": 1,
        "bytes": 3,
        "since_save": 0.02,
    }
    rig.clock.now += 0.08
    rig.take(parsing("new", "a.py"), parsed("new", "a.py", "sales"), settled("new"))
    assert [message["type"] for message in rig.told[1:]] == ["parsing", "parsed", "settled"]
    assert rig.last["since_save"] == pytest.approx(0.1)
    assert rig.board.state()["settled"] is True
    assert rig.board.state()["dags"] == ["sales"]


def test_a_snapshot_that_is_parsed_again_is_not_settled_meanwhile(rig: Rig) -> None:
    """As after a change of the sync's own settings, or a stock parse by the clock."""
    rig.take(settled("old"), parsing("old", "a.py"))
    assert rig.board.state()["settled"] is False
    assert rig.board.state()["awaited"] == ["a.py"]
    assert "being parsed" in rig.board.state()["summary"]
    rig.take(settled("old"))
    assert rig.board.state()["settled"] is True


def test_a_snapshot_that_nobody_saved_has_no_age(rig: Rig) -> None:
    rig.take(settled("old"))
    assert "since_save" not in rig.last


def test_only_the_first_paths_of_a_large_save_are_told(rig: Rig) -> None:
    names = [f"{number:03}.py" for number in range(500)]
    rig.take(sent("new", *names))
    assert rig.last["paths"] == names[:PATHS_TOLD]
    assert rig.last["count"] == 500


def test_saves_long_ago_are_forgotten(rig: Rig) -> None:
    for number in range(SAVES_REMEMBERED + 1):
        rig.take(sent(str(number)))
    rig.take(settled("0"))
    assert "since_save" not in rig.last
    rig.take(settled("1"))
    assert "since_save" in rig.last


def test_an_error_is_news_once(rig: Rig) -> None:
    news = []
    for error in ("", "broken", "broken", "otherwise", "", ""):
        rig.take(parsed("x", "a.py", error=error))
        news.append(rig.last["news"])
    assert news == [False, True, False, True, True, False]


def test_the_state_names_errors_until_their_file_imports_or_goes(rig: Rig) -> None:
    rig.take(parsed("x", "a.py", error="no a"), parsed("x", "b.py", error="no b"))
    assert rig.board.state()["errors"] == {"a.py": "no a", "b.py": "no b"}
    assert "2 files do not import" in rig.board.state()["summary"]
    rig.take(parsed("x", "a.py", "a"))
    rig.take({"type": "removed", "snapshot": "x", "file": "b.py", "dags": []})
    assert rig.board.state()["errors"] == {}


def test_a_restarted_processor_replaces_what_was_known(rig: Rig) -> None:
    rig.take(parsed("old", "gone.py", "gone"), settled("old"))
    rig.take(
        {
            "type": "hello",
            "snapshot": "old",
            "awaited": ["a.py"],
            "files": {"a.py": {"dags": {"a": 1}, "errors": {}, "seconds": 1}},
        }
    )
    state = rig.board.state()
    assert (state["dags"], state["awaited"], state["settled"]) == (["a"], ["a.py"], False)
    rig.take(settled("old"))
    assert rig.board.state()["settled"] is True


def test_what_cannot_be_known_any_more_is_not_called_settled(rig: Rig) -> None:
    for lost in (
        events.Disconnected(reason="cut", retry=1),
        events.ProcessorConnection(connected=False),
    ):
        rig.take(connected("old"), settled("old"))
        assert rig.board.state()["settled"] is True
        rig.take(lost)
        assert rig.board.state()["settled"] is False


def test_an_empty_store_is_not_called_settled() -> None:
    rig = Rig().take(connected(None), settled(None))
    assert rig.board.state()["settled"] is False


def test_every_trouble_is_told_and_shown(rig: Rig) -> None:
    rig.take(events.LeftOut(path="x.sock", reason="a socket"))
    assert rig.last == {"type": "problem", "path": "x.sock", "reason": "a socket"}
    assert rig.board.state()["problems"] == {"x.sock": "a socket"}
    rig.take(events.Halted(reason="it is empty"))
    assert rig.last == {"type": "halted", "reason": "it is empty"}
    assert rig.board.state()["summary"] == "sync halted: it is empty"
    rig.take(events.Resumed())
    assert rig.board.state()["halted"] == ""
    rig.take(events.Refused(code="no_space", message="the disk is full", retry=1))
    assert (rig.last["type"], rig.last["message"]) == ("refused", "the disk is full")
    rig.take(events.Note(message="looking every second"))
    assert rig.last == {"type": "note", "message": "looking every second"}
    rig.take(events.Disconnected(reason="cut", retry=1))
    assert rig.last == {"type": "disconnected", "reason": "cut"}
    assert rig.board.state()["summary"] == "sync: not connected: cut"
    rig.take(connected("old", again=True))
    assert rig.last == {"type": "connected"}


def test_the_first_connection_is_no_news() -> None:
    assert Rig().take(connected("old")).told == []


def test_a_cut_is_told_once_for_each_reason_and_then_how_far_behind_we_are() -> None:
    rig = Rig()
    rig.take(connected("old"), events.Behind(paths=24), events.CaughtUp(tree="new"))
    for reason in ("cut", "no pod is ready", "no pod is ready", "no pod is ready"):
        rig.take(events.Disconnected(reason=reason, retry=1))
    rig.take(connected("new", again=True), events.Behind(paths=3), events.CaughtUp(tree="newer"))
    rig.take(events.Behind(paths=1), events.CaughtUp(tree="newest"))  # after a refusal
    assert rig.told == [
        {"type": "disconnected", "reason": "cut"},
        {"type": "disconnected", "reason": "no pod is ready"},
        {"type": "connected"},
        {"type": "behind", "count": 3},
        {"type": "caught-up"},
    ]


def test_a_first_connection_after_an_outage_is_news() -> None:
    rig = Rig().take(events.Disconnected(reason="no pod", retry=1), connected("old"))
    assert rig.told[-1] == {"type": "connected"}


def test_somebody_else_who_syncs_is_told_and_shown_until_we_are_connected() -> None:
    rig = Rig().take(connected("old"), events.Held(reason="anna@laptop syncs here", hint="Ask."))
    assert rig.last == {"type": "held", "reason": "anna@laptop syncs here", "hint": "Ask."}
    state = rig.board.state()
    assert (state["connected"], state["held"]) == (False, "anna@laptop syncs here")
    assert state["summary"] == "sync: anna@laptop syncs here. Ask."
    assert rig.board.take_over() == "anna@laptop syncs here"
    assert not rig.board.wait_connected(timeout=0)
    rig.take(connected("new"))
    assert rig.last == {"type": "connected"}
    assert rig.board.wait_connected(timeout=0)
    assert rig.board.take_over() == ""


def test_what_keeps_saves_back_is_the_state_until_it_is_over(rig: Rig) -> None:
    assert rig.board.state()["troubles"] == []
    assert rig.board.state()["healthy"] is True
    rig.take(events.Behind(paths=3))
    state = rig.board.state()
    assert state["summary"] == "sync: behind by 3 files"
    assert state["healthy"] is True  # It is on its way.
    rig.take(events.Refused(code="no_space", message="the disk is full", retry=1))
    state = rig.board.state()
    assert state["summary"] == "sync: the last save could not be stored: the disk is full"
    assert state["healthy"] is False
    assert [each["type"] for each in state["troubles"]] == ["refused", "behind"]
    rig.take(sent("new"), events.CaughtUp(tree="new"))
    state = rig.board.state()
    assert (state["troubles"], state["healthy"]) == ([], True)
    assert "in step" in state["summary"]


def test_each_trouble_is_shown_as_it_was_told(rig: Rig) -> None:
    for event in (
        events.Halted(reason="the folder is empty"),
        events.Disconnected(reason="cut", retry=1),
        events.Held(reason="anna@laptop syncs here", hint="Ask."),
    ):
        rig.take(event)
        assert rig.last in rig.board.state()["troubles"]
        assert rig.board.state()["healthy"] is False
    types = [each["type"] for each in rig.board.state()["troubles"]]
    assert types == ["held", "halted"]  # Who is held is not connected; that goes without saying.


def hello(snapshot: str, **files: str) -> Message:
    outcomes = {
        f"{name}.py": {
            "dags": {} if error else {name: 2},
            "errors": {f"{name}.py": error} if error else {},
            "seconds": 0.2,
        }
        for name, error in files.items()
    }
    return {"type": "hello", "snapshot": snapshot, "awaited": [], "files": outcomes}


def test_what_was_parsed_during_a_cut_is_told_after_it(rig: Rig) -> None:
    rig.take(hello("old", a="", b=""))
    assert rig.told == []
    rig.take(
        events.Disconnected(reason="cut", retry=1),
        connected("new", again=True),
        sent("new", "a.py"),
        hello("new", a="no module", b=""),
    )
    [told] = [message for message in rig.told if message["type"] == "parsed"]
    assert (told["file"], told["snapshot"], told["news"]) == ("a.py", "new", True)
    assert "since_save" in told
    assert rig.board.state()["settled"] is True


# --- waiting --------------------------------------------------------------------------------------


def wait(rig: Rig, snapshot: str) -> tuple[threading.Thread, list[bool]]:
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(rig.board.wait_settled(snapshot, timeout=1000)), daemon=True
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
    assert rig.board.wait_settled("new", timeout=0.0) is False


snapshots = st.sampled_from(["old", "s1", "s2", "s3"])
files = st.sampled_from(["a.py", "b.py", "c.py"])
any_event: st.SearchStrategy[events.Event | Message] = st.one_of(
    st.builds(connected, snapshots | st.none(), again=st.booleans()),
    st.builds(lambda: events.Disconnected(reason="cut", retry=1.0)),
    st.builds(sent, snapshots, files),
    st.builds(lambda tree: events.CaughtUp(tree=tree), snapshots),
    st.builds(lambda path: events.LeftOut(path=path, reason="odd"), files),
    st.builds(lambda: events.Halted(reason="empty")),
    st.builds(events.Resumed),
    st.builds(lambda on: events.ProcessorConnection(connected=on), st.booleans()),
    st.builds(parsing, snapshots, files),
    st.builds(parsed, snapshots, files, files, error=st.sampled_from(["", "x", "y"])),
    st.builds(settled, snapshots),
    st.builds(
        lambda kind, snapshot, awaited: {
            "type": kind,
            "snapshot": snapshot,
            "awaited": awaited,
            "files": {},
        },
        st.sampled_from(["hello", "state"]),
        snapshots | st.none(),
        st.lists(files),
    ),
    st.builds(
        lambda snapshot, file: {
            "type": "removed",
            "snapshot": snapshot,
            "file": file,
            "dags": ["x"],
        },
        snapshots,
        files,
    ),
    st.just({"type": "something from a later version"}),
)


@given(st.lists(any_event, max_size=30))
def test_whatever_happens_the_board_claims_only_what_it_was_told(
    these: list[events.Event | Message],
) -> None:
    rig = Rig()
    for event in these:
        rig.take(event)
        state = rig.board.state()
        json.dumps([state, rig.told])  # All of it goes over the socket.
        if state["settled"]:
            assert state["awaited"] == []
            assert state["snapshot"] == rig.board.settled
            assert rig.board.wait_settled(state["snapshot"], timeout=0)
        if isinstance(event, dict) and event["type"] == "parsing":
            assert not state["settled"]
        if isinstance(event, events.Disconnected):
            assert not state["settled"]
            assert not state["connected"]


@given(st.lists(any_event, max_size=30), snapshots)
def test_after_any_past_a_save_that_is_parsed_whole_counts_as_settled(
    past: list[events.Event | Message], snapshot: str
) -> None:
    rig = Rig().take(*past)
    rig.take(
        connected(snapshot, again=True),
        sent(snapshot, "a.py"),
        parsing(snapshot, "a.py"),
        parsed(snapshot, "a.py", "sales"),
        settled(snapshot),
    )
    assert rig.board.wait_settled(snapshot, timeout=0)
    assert rig.board.state()["settled"] is True
    assert "sales" in rig.board.state()["dags"]
