from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakes import KeptConsole
from windsock import events
from windsock.terminal.feedback import Feedback
from windsock.terminal.places import Places
from windsock.terminal.remedies import REQUIREMENTS

if TYPE_CHECKING:
    from windsock.events import Event

TRACE = """Traceback (most recent call last):
  File "/venv/airflow/importers/python_importer.py", line 231, in parse
    loader.exec_module(new_module)
  File "/home/me/dags/sales.py", line 3, in <module>
    from shop.till import count
  File "/home/me/dags/shop/till.py", line 12, in <module>
    Parm()
NameError: name 'Parm' is not defined
"""


class Terminal:
    def __init__(self) -> None:
        self.console = KeptConsole()
        self.now = 0.0
        places = Places("/home/me/dags", {"include": "/home/me/shared"}, here="/home/me")
        self.feedback = Feedback(self.console, places, clock=lambda: self.now)

    def after(self, *these: Event) -> list[str]:
        """What the events printed, line by line."""
        before = len(self.console.said)
        for event in these:
            self.feedback.show(event)
        return self.console.said[before:].splitlines()


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def sent(snapshot: str, *paths: str, count: int = 0) -> events.Sent:
    return events.Sent(
        snapshot=snapshot, paths=paths, count=count or len(paths), bytes=9, since_save=0.01
    )


def parsed(
    snapshot: str, file: str, dags: dict[str, int] | None = None, *, error: str = "", **more: Any
) -> events.Parsed:
    return events.Parsed(
        snapshot=snapshot,
        file=file,
        dags=dags or {},
        errors={file: error} if error else {},
        seconds=0.1,
        **{"news": bool(error), **more},
    )


def parsing(snapshot: str, *files: str) -> events.Parsing:
    return events.Parsing(snapshot=snapshot, files=files)


def removed(snapshot: str, file: str, *dags: str) -> events.Removed:
    return events.Removed(snapshot=snapshot, file=file, dags=dags)


def settled(snapshot: str, since_save: float | None = None) -> events.Settled:
    return events.Settled(snapshot=snapshot, seconds=0.1, since_save=since_save)


def test_a_save_is_one_line_once_it_is_parsed_whole(terminal: Terminal) -> None:
    assert terminal.after(sent("s", "a.py"), parsed("s", "a.py", {"a": 1, "b": 2})) == []
    assert terminal.after(settled("s", since_save=0.187)) == [
        "✓ dags/a.py → a (1 task), b (2 tasks)  0.19 s"
    ]


def test_a_file_that_no_dag_uses_says_so(terminal: Terminal) -> None:
    assert terminal.after(sent("s", "notes.md"), settled("s")) == [
        "✓ dags/notes.md → no DAG affected"
    ]


def test_what_is_parsed_by_the_clock_meanwhile_is_no_part_of_a_save(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("s", "a.py"),
        parsing("s", "a.py"),
        parsed("s", "other.py", {"other": 9}),
        parsed("s", "broken.py", error="as before", news=False),
        parsed("s", "a.py", {"a": 1}),
        settled("s", since_save=0.1),
    )
    assert lines == ["✓ dags/a.py → a (1 task)  0.10 s"]


def test_the_file_that_owns_a_dag_now_is_part_of_the_save_that_moved_it(
    terminal: Terminal,
) -> None:
    lines = terminal.after(
        sent("s", "a.py"),
        parsing("s", "a.py"),
        removed("s", "a.py", "moved"),
        parsing("s", "b.py"),
        parsed("s", "a.py", {"a": 1}),
        parsed("s", "b.py", {"moved": 2}),
        settled("s", since_save=0.1),
    )
    assert lines == ["✓ dags/a.py → a (1 task), moved (2 tasks)  0.10 s"]


def test_what_an_overtaken_save_affects_is_shown_with_the_next_one(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("first", "a.py"),
        parsing("first", "a.py"),
        sent("second", "b.py"),
        parsing("second", "b.py"),
        parsed("second", "a.py", {"a": 1}),
        parsed("second", "b.py", {"b": 1}),
        settled("second", since_save=0.1),
    )
    assert lines == ["✓ dags/a.py, dags/b.py → a (1 task), b (1 task)  0.10 s"]


def test_many_files_and_dags_are_counted(terminal: Terminal) -> None:
    names = [f"{letter}.py" for letter in "abcdefgh"]
    lines = terminal.after(
        sent("s", *names, count=300),
        *(parsed("s", name, {name[0]: 1}) for name in names),
        settled("s"),
    )
    assert lines == [
        "✓ 300 files → a (1 task), b (1 task), c (1 task), d (1 task) and 4 more",
    ]


def test_an_error_is_shown_at_once_at_the_users_own_line(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("s", "shop/till.py"), parsed("s", "sales.py", error=TRACE, since_save=0.24)
    )
    assert lines == [
        "✗ dags/shop/till.py:12  NameError: name 'Parm' is not defined  0.24 s",
        '      File "dags/sales.py", line 3, in <module>',
        "        from shop.till import count",
        '      File "dags/shop/till.py", line 12, in <module>',
        "        Parm()",
    ]
    assert terminal.after(settled("s")) == []


def test_a_save_that_breaks_one_of_several_files_shows_both(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("s", "shop.py"),
        parsed("s", "a.py", {"a": 1}),
        parsed("s", "b.py", error="b.py: it hangs"),
        settled("s"),
    )
    assert lines == ["✗ dags/b.py  it hangs", "✓ dags/shop.py → a (1 task); 1 broken"]


def test_a_cause_that_breaks_many_files_is_shown_once_and_counted(terminal: Terminal) -> None:
    missing = "ModuleNotFoundError: No module named 'operators'"
    files = [f"{letter}.py" for letter in "abcdefg"]
    lines = terminal.after(
        sent("s", *files),
        *(parsed("s", file, error=missing) for file in files),
        parsed("s", "other.py", error="no such table"),
        settled("s"),
    )
    assert lines == [
        f"✗ dags/a.py  {missing}",
        f"  Is it a package? Add it to {REQUIREMENTS}",
        "✗ dags/other.py  no such table",
        f"✗ 7 files: {missing}",
        "    also dags/b.py, dags/c.py, dags/d.py, dags/e.py and 2 more",
    ]
    # With the next save it is told again.
    [first, *_] = terminal.after(sent("t", "b.py"), parsed("t", "b.py", error=missing))
    assert first == f"✗ dags/b.py  {missing}"


def test_an_error_that_nobodys_save_made_is_shown_when_it_is_news(terminal: Terminal) -> None:
    assert terminal.after(parsed("x", "a.py", error="no such table")) == [
        "✗ dags/a.py  no such table",
    ]
    assert terminal.after(parsed("x", "a.py", error="no such table", news=False)) == []
    assert terminal.after(parsed("x", "a.py", {"a": 1}, news=True)) == ["✓ dags/a.py imports again"]
    assert terminal.after(parsed("x", "a.py", {"a": 1})) == []


def test_what_a_save_removed_is_named_but_not_what_only_moved(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("s", "a.py", "b.py"),
        removed("s", "a.py", "gone", "moved"),
        parsed("s", "b.py", {"moved": 1}),
        settled("s"),
    )
    assert lines == ["✓ dags/a.py, dags/b.py → moved (1 task); removed gone"]


def test_a_save_that_comes_before_the_last_one_is_settled_has_its_line_too(
    terminal: Terminal,
) -> None:
    terminal.after(sent("first", "a.py"), parsed("first", "a.py", {"a": 1}), sent("second", "b.py"))
    assert terminal.after(settled("first")) == ["✓ dags/a.py → a (1 task)"]
    assert terminal.after(parsed("second", "b.py", {"b": 1}), settled("second")) == [
        "✓ dags/b.py → b (1 task)"
    ]


def test_a_save_that_was_overtaken_is_shown_with_the_one_that_overtook_it(
    terminal: Terminal,
) -> None:
    lines = terminal.after(
        sent("first", "a.py"),
        sent("second", "b.py"),
        parsed("second", "a.py", {"a": 1}),
        parsed("second", "b.py", {"b": 1}),
        settled("second", since_save=0.3),
    )
    assert lines == ["✓ dags/a.py, dags/b.py → a (1 task), b (1 task)  0.30 s"]
    assert terminal.after(settled("first")) == []


def test_an_error_that_the_overtaking_save_mended_is_not_counted(terminal: Terminal) -> None:
    terminal.after(
        sent("first", "a.py"), parsed("first", "a.py", error="broken"), sent("second", "a.py")
    )
    assert terminal.after(parsed("second", "a.py", {"a": 1}), settled("second")) == [
        "✓ dags/a.py → a (1 task)"
    ]


def test_of_two_saves_that_settle_together_the_newer_one_counts(terminal: Terminal) -> None:
    still_broken = parsed("first", "a.py", error="as before", news=False)
    terminal.after(sent("first", "shop.py"), still_broken, parsed("first", "b.py", {"old": 1}))
    terminal.after(parsed("first", "c.py", {"c": 1}), sent("second", "shop.py", "c.py"))
    lines = terminal.after(
        removed("second", "c.py", "c"),
        parsed("second", "a.py", {"a": 1}),
        parsed("second", "b.py", {"new": 1}),
        settled("second"),
    )
    assert lines == ["✓ dags/c.py, dags/shop.py → a (1 task), new (1 task); removed c"]


def test_many_files_of_two_saves_are_counted_together(terminal: Terminal) -> None:
    terminal.after(sent("first", "a.py", count=20), sent("second", "b.py", count=20))
    assert terminal.after(settled("second")) == ["✓ 40 files → no DAG affected"]
    terminal.after(sent("first", "a.py", count=20), sent("second", "a.py", "b.py", count=30))
    assert terminal.after(settled("second")) == ["✓ 30 files → no DAG affected"]


def test_beside_a_file_that_breaks_those_that_stay_broken_are_counted(terminal: Terminal) -> None:
    lines = terminal.after(
        sent("s", "shop.py"),
        parsed("s", "a.py", error="no such table"),
        parsed("s", "b.py", error="as before", news=False),
        settled("s"),
    )
    assert lines == [
        "✗ dags/a.py  no such table",
        "✓ dags/shop.py → 1 broken; 1 file is still broken",
    ]


def test_what_a_changed_variable_breaks_is_shown_once_and_counted(terminal: Terminal) -> None:
    files = ["a.py", "b.py", "c.py"]
    error = "KeyError: 'Variable day does not exist'"
    trace = TRACE.replace("NameError: name 'Parm' is not defined", error)
    first, *lines = terminal.after(
        events.Parsing(snapshot="s", files=tuple(files), settings=("variables/day",)),
        *(parsed("s", file, error=trace) for file in files),
    )
    assert first == f"✗ dags/shop/till.py:12  {error}"
    assert lines[-2:] == [f"✗ 3 files: {error}", "    also dags/b.py, dags/c.py"]
    assert sum(error in line for line in lines) == 1
    # Later ones have nothing to do with it.
    assert terminal.after(parsed("s", "d.py", error=trace))[0] == first


def test_an_edit_and_its_undoing_are_one_line(terminal: Terminal) -> None:
    """Undone, the folder is at a snapshot that was sent before."""
    lines = terminal.after(
        sent("one", "a.py"), sent("two", "b.py"), sent("one", "b.py"), settled("one")
    )
    assert lines == ["✓ dags/b.py → no DAG affected"]
    assert terminal.after(settled("one")) == []
    assert terminal.after(sent("three", "c.py"), settled("three")) == [
        "✓ dags/c.py → no DAG affected",
    ]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (events.NotSynced(path="x", reason="a socket"), ["! dags/x is not synced: a socket"]),
        (
            events.NotSynced(path="include/x", reason="a socket"),
            ["! shared/x is not synced: a socket"],
        ),
        (events.Resumed(), ["✓ sync goes on"]),
        (events.Connected(snapshot="s", pid=1, again=True), ["✓ connected"]),
        (events.Behind(count=0), []),
        (events.Behind(count=1), ["  behind by 1 file"]),
        (events.Behind(count=12), ["  behind by 12 files"]),
        (events.CaughtUp(snapshot="s"), ["✓ caught up"]),
        (
            events.Busy(reason="anna@laptop syncs here", hint="Ask them."),
            [
                "✗ anna@laptop syncs here",
                "  Your saves are not synced, but your files stay as they are.",
                "  Ask them.",
            ],
        ),
        (events.Disconnected(reason="cut", retry=1), ["! disconnected: cut; trying again"]),
        (events.Note(message="polling"), ["! polling"]),
        (
            events.Refused(code="no_space", message="the disk is full", retry=1),
            [
                "✗ the save could not be stored: the disk is full",
                "  It is tried again; nothing is lost.",
            ],
        ),
        (
            events.SettingsFailed(message="line 3: no conn_id", hint="Add one."),
            ["✗ line 3: no conn_id", "  Add one."],
        ),
        (events.SettingsImported(summary="pools +1"), ["✓ settings: pools +1"]),
        (events.SettingsImported(summary=""), ["✓ settings: nothing in the file"]),
        (
            events.Restarting(components=("scheduler", "triggerer")),
            ["  plugins changed: restarting scheduler, triggerer"],
        ),
        (events.Restarted(seconds=7.25), ["✓ restarted, with the new plugins  7.25 s"]),
        (
            events.RestartFailed(message="the scheduler ended", hint="Its end:\nno"),
            [
                "✗ plugins changed, but the restart failed: the scheduler ended",
                "  Its end:",
                "  no",
            ],
        ),
        (events.Attached(), []),
        (events.ProcessorConnection(connected=True), []),
    ],
)
def test_what_else_happens_is_a_line(terminal: Terminal, event: Event, lines: list[str]) -> None:
    assert terminal.after(event) == lines


def test_a_halt_says_how_to_go_on(terminal: Terminal) -> None:
    assert "`invoke sync --allow-empty`" in "\n".join(
        terminal.after(events.Halted(reason="it is empty"))
    )


def test_an_error_that_is_no_traceback_is_its_first_line(terminal: Terminal) -> None:
    assert terminal.after(parsed("x", "a.py", error="one\ntwo\n")) == [
        "✗ dags/a.py  one",
        "    two",
    ]


@given(st.text(min_size=1))
def test_no_traceback_is_too_odd(trace: str) -> None:
    first, *others = Terminal().after(parsed("x", "a.py", error=trace))
    assert first.startswith("✗ dags/a.py  ")
    assert len(others) <= len(trace.splitlines())


def test_a_dag_that_is_paused_says_what_would_start_it(terminal: Terminal) -> None:
    event = parsed("x", "a.py", {"a": 1, "b": 2, "c": 3})
    schedules = {"a": "0 0 * * *", "b": "*/5 * * * *"}
    lines = terminal.after(sent("x", "a.py"), replace(event, paused=schedules), settled("x"))
    assert "→ a (1 task, paused, @daily), b (2 tasks, paused, */5 * * * *), c (3 tasks)" in lines[0]


snapshots = st.sampled_from(["s1", "s2", "s3"])
names = st.sampled_from(["a.py", "b.py"])


@given(
    st.lists(
        st.one_of(
            st.builds(sent, snapshots, names),
            st.builds(
                parsed, snapshots, names, st.just({"a": 1}), error=st.sampled_from(["", "x"])
            ),
            st.builds(parsing, snapshots, names),
            st.builds(removed, snapshots, names, names),
            st.builds(settled, snapshots),
        )
    )
)
def test_after_any_past_a_save_still_has_its_line(past: list[Event]) -> None:
    terminal = Terminal()
    terminal.after(*past)
    lines = terminal.after(
        sent("new", "mine.py"), parsed("new", "mine.py", {"mine": 1}), settled("new")
    )
    assert len(lines) == 1
    assert "mine.py" in lines[0]
    assert "mine (1 task)" in lines[0]


def test_files_that_are_broken_as_before_are_a_count_behind_the_line_of_the_save(
    terminal: Terminal,
) -> None:
    old = [
        parsed("s", f"old_{number}.py", error="ImportError: no", news=False) for number in range(63)
    ]
    files = ["a.py", *(each.file for each in old)]
    assert terminal.after(
        sent("s", "a.py"), parsing("s", *files), parsed("s", "a.py", {"a": 1}), *old, settled("s")
    ) == ["✓ dags/a.py → a (1 task); 63 files are still broken"]


def test_a_broken_file_that_is_saved_and_stays_broken_is_shown_again(terminal: Terminal) -> None:
    same = parsed("s", "a.py", error="ImportError: no", news=False)
    [line] = terminal.after(sent("s", "a.py"), parsing("s", "a.py"), same, settled("s"))
    assert "ImportError: no" in line


def test_a_long_parse_shows_how_far_it_is(terminal: Terminal) -> None:
    files = [f"dag_{number}.py" for number in range(4)]
    assert terminal.after(sent("s", *files), parsing("s", *files)) == []
    terminal.now = 1.0
    assert terminal.after(parsed("s", files[0])) == []
    terminal.now = 6.0
    assert terminal.after(parsed("s", files[1])) == ["  2 of 4 files parsed"]
    terminal.now = 7.0
    assert terminal.after(parsed("s", files[2])) == []
    terminal.now = 12.0
    assert terminal.after(parsed("s", files[3])) == [], "its own line follows"


# --- warnings ------------------------------------------------------------------------------------


def test_a_warning_is_shown_when_it_is_news_in_place_of_a_line_without_news(
    terminal: Terminal,
) -> None:
    uncalled = events.FileWarning(file="a.py", line=3, message="never called", news=True)
    old = events.FileWarning(file="b.py", message="told before")
    settles = events.Settled(snapshot="s", seconds=0.1, warnings=(uncalled, old))
    assert terminal.after(sent("s", "a.py"), parsed("s", "a.py"), settles) == [
        "! dags/a.py:3  never called"
    ]
    shown = terminal.after(sent("s", "a.py"), parsed("s", "a.py", {"a": 1}), settles)
    assert shown == ["✓ dags/a.py → a (1 task)", "! dags/a.py:3  never called"]
