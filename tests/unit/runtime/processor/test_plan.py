from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.events import Parsed, ProcessorState, Settled
from windsock.runtime.processor import plan as plans
from windsock.runtime.processor.plan import ParsePlan, Work

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A snapshot store with manifests only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "manifests").mkdir()

    def save(self, snapshot: str, **files: str) -> list[str]:
        """Make a snapshot the current one; returns its DAG files."""
        entries = {
            name.replace("__", "/"): ["file", 0o644, 1, text] for name, text in files.items()
        }
        (self.path / "manifests" / f"{snapshot}.json").write_text(
            json.dumps({"version": 1, "entries": entries})
        )
        fresh = self.path / "fresh"
        fresh.symlink_to(f"snapshots/{snapshot}")
        fresh.replace(self.path / "current")
        return [name for name in entries if "/" not in name and name.startswith("dag")]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def plan(store: Store, clock: Clock) -> ParsePlan:
    return ParsePlan(store.path, clock=clock)


def parse(
    plan: ParsePlan,
    name: str,
    *used: str,
    dags: tuple[str, ...] | None = None,
    error: str = "",
    seconds: float = 0.1,
    overtaken: bool = False,
) -> None:
    """Let a parse of a file end."""
    plan.note_uses(name, set(used), complete=not error)
    parsed = Parsed(
        snapshot=str(plan.snapshot),
        file=name,
        dags=dict.fromkeys((name,) if dags is None else dags, 1),
        errors={name: error} if error else {},
        seconds=seconds,
    )
    plan.finish(parsed, overtaken=overtaken)


# --- what a save affects --------------------------------------------------------------------------


def test_the_first_snapshot_needs_every_file(plan: ParsePlan, store: Store) -> None:
    files = store.save(ONE, dag_b="1", dag_a="1", helper="1")
    assert plan.begin(ONE, files) == Work(files=("dag_a", "dag_b"), removed={})
    assert plan.state() == ProcessorState(snapshot=ONE, awaited=("dag_a", "dag_b"), files=())


def test_the_saved_file_comes_first_then_the_users_of_what_was_saved(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1", dag_c="1", helper="1"))
    parse(plan, "dag_a", "helper")
    parse(plan, "dag_b")
    parse(plan, "dag_c")
    work = plan.begin(TWO, store.save(TWO, dag_a="1", dag_b="1", dag_c="2", helper="2"))
    assert work.files == ("dag_c", "dag_a")


def test_a_file_that_lists_a_folder_is_affected_by_everything_below_it(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1", sql__old__x="1"))
    parse(plan, "dag_a", "sql/")
    parse(plan, "dag_b", "sql/old/y")
    work = plan.begin(TWO, store.save(TWO, dag_a="1", dag_b="1", sql__old__x="1", sql__new__x="1"))
    assert work.files == ("dag_a",)


def test_a_broken_file_is_parsed_again_when_what_it_looked_for_comes(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1"))
    parse(plan, "dag_a", "helper.py", "helper", error="No module named 'helper'")
    parse(plan, "dag_b")
    assert plan.begin(TWO, store.save(TWO, dag_a="1", dag_b="1", other="1")).files == ()
    files = store.save(THREE, dag_a="1", dag_b="1", other="1", helper__names="1")
    assert plan.begin(THREE, files).files == ("dag_a",), "a folder is a package"


def test_a_file_that_looked_for_a_folder_is_affected_when_it_comes_or_goes(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1"))
    parse(plan, "dag_a", "conf")
    work = plan.begin(TWO, store.save(TWO, dag_a="1", conf__x="1"))
    assert work.files == ("dag_a",)
    parse(plan, "dag_a", "conf")
    assert plan.begin(THREE, store.save(THREE, dag_a="1", conf__x="2")).files == ()
    assert plan.begin(ONE, store.save(ONE, dag_a="1")).files == ("dag_a",)


def test_a_parse_that_broke_early_keeps_what_is_known_of_its_uses(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", helper="1"))
    parse(plan, "dag_a", "helper")
    plan.note_uses("dag_a", set(), complete=False)
    assert plan.uses("dag_a") == ("dag_a", "helper")
    work = plan.begin(TWO, store.save(TWO, dag_a="1", helper="2"))
    assert work.files == ("dag_a",)


def test_without_the_old_manifest_every_file_may_differ(plan: ParsePlan, store: Store) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1"))
    for name in ("dag_a", "dag_b"):
        parse(plan, name)
    (store.path / "manifests" / f"{ONE}.json").unlink()
    assert plan.begin(TWO, store.save(TWO, dag_a="1", dag_b="1")).files == ("dag_a", "dag_b")


def test_a_deleted_file_takes_its_dags_along_and_their_other_owner_is_parsed(
    plan: ParsePlan, store: Store
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1", dag_c="1"))
    parse(plan, "dag_a", dags=("x", "shared"))
    parse(plan, "dag_b", dags=("shared",))
    parse(plan, "dag_c")
    work = plan.begin(TWO, store.save(TWO, dag_b="1", dag_c="1"))
    assert work == Work(files=("dag_b",), removed={"dag_a": ("shared", "x")})
    assert plan.state().awaited == ("dag_b",)


def test_the_other_owner_of_a_dag_that_vanished_is_awaited(plan: ParsePlan, store: Store) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1"))
    parse(plan, "dag_a", dags=("shared",))
    parse(plan, "dag_b", dags=("shared",))
    assert plan.lose("dag_a", ["shared"]) == ["dag_b"]
    assert plan.is_awaited("dag_b")
    assert plan.lose("dag_b", ["shared"]) == []


# --- settled --------------------------------------------------------------------------------------


def test_it_is_settled_when_nothing_is_awaited(plan: ParsePlan, store: Store, clock: Clock) -> None:
    assert plan.settled() is None
    clock.now = 5.0
    plan.notice()
    plan.begin(ONE, store.save(ONE, dag_a="1"))
    assert plan.settled() is None
    clock.now = 5.25
    parse(plan, "dag_a")
    assert plan.settled() == Settled(snapshot=ONE, seconds=0.25)


def test_a_file_that_was_deleted_is_awaited_no_more(plan: ParsePlan, store: Store) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1"))
    plan.begin(TWO, store.save(TWO, dag_b="1"))
    parse(plan, "dag_b")
    assert plan.settled() is not None


# --- saves during a parse -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "outdated"), [({"helper"}, True), ({"other"}, False), (set(), False)]
)
def test_a_parse_is_outdated_when_a_save_changed_what_it_used(
    plan: ParsePlan, store: Store, used: set[str], outdated: bool
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", helper="1", other="1"))
    assert not plan.is_outdated("dag_a", ONE, used)
    store.save(TWO, dag_a="1", helper="2", other="1")
    assert plan.is_outdated("dag_a", ONE, used) is outdated
    store.save(THREE, dag_a="2", helper="2", other="1")
    assert plan.is_outdated("dag_a", ONE, used), "the file itself has changed"


def test_a_parse_of_a_collected_snapshot_is_outdated(plan: ParsePlan, store: Store) -> None:
    store.save(TWO, dag_a="1")
    assert plan.is_outdated("dag_a", ONE, set())


def test_a_file_that_is_saved_faster_than_it_is_parsed_is_starved_after_a_while(
    plan: ParsePlan, store: Store, clock: Clock
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1"))
    clock.now = plans.STARVED_SECONDS
    plan.begin(TWO, store.save(TWO, dag_a="2"))
    assert not plan.is_starved("dag_a")
    clock.now += 0.1
    assert plan.is_starved("dag_a")
    parse(plan, "dag_a", overtaken=True)
    assert not plan.is_starved("dag_a"), "it has just been seen"
    assert plan.settled() is None, "but not as it is now"
    clock.now += 2 * plans.STARVED_SECONDS
    assert plan.is_starved("dag_a")
    parse(plan, "dag_a")
    assert not plan.is_starved("dag_a")
    assert plan.settled() is not None


def test_a_file_that_is_gone_is_neither_starved_nor_just_saved(
    plan: ParsePlan, store: Store, clock: Clock
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1"))
    plan.begin(TWO, store.save(TWO, dag_a="2", dag_b="1"))
    assert plan.is_just_saved("dag_b")
    plan.begin(THREE, store.save(THREE, dag_a="2"))
    clock.now += 2 * plans.STARVED_SECONDS
    assert plan.is_starved("dag_a")
    assert not plan.is_starved("dag_b"), "its parse was never stored"
    assert not plan.is_just_saved("dag_b")


# --- files that share a parser --------------------------------------------------------------------

linux = pytest.mark.skipif(sys.platform != "linux", reason="files share a parser on Linux only")


@pytest.fixture
def users(plan: ParsePlan, store: Store) -> list[str]:
    """DAG files that use a helper, which has just been saved."""
    files = {f"dag_{number:02}": "1" for number in range(19)}
    plan.begin(ONE, store.save(ONE, helper="1", **files))
    for name in files:
        parse(plan, name, "helper", seconds=0.01)
    plan.begin(TWO, store.save(TWO, helper="2", **files))
    return list(files)


@linux
@pytest.mark.parametrize(("parsers", "count"), [(1, 10), (2, 5), (3, 4), (0, 10)])
def test_the_parsers_share_half_of_the_files_that_wait(
    plan: ParsePlan, users: list[str], parsers: int, count: int
) -> None:
    assert plan.group(users, parsers=parsers) == users[:count]


@linux
def test_a_group_is_short_and_not_too_large(plan: ParsePlan, users: list[str]) -> None:
    parse(plan, users[2], seconds=plans.GROUP_SECONDS)
    assert plan.group(users, parsers=1) == users[:2]
    many = [f"dag_{number:03}" for number in range(3 * plans.GROUP_FILES)]
    for name in many:
        parse(plan, name, seconds=0.01)
    assert plan.group(many, parsers=1) == many[: plans.GROUP_FILES]


@linux
def test_a_file_that_was_just_saved_or_was_lost_shares_no_parser(
    plan: ParsePlan, store: Store, users: list[str]
) -> None:
    broken, saved, lost, other = users[:4]
    parse(plan, broken, error="no")
    plan.parse_alone(lost)
    files = {name: "2" if name == saved else "1" for name in users}
    plan.begin(THREE, store.save(THREE, helper="2", **files))
    assert plan.group([broken, saved, lost, other], parsers=1) == [broken]
    assert plan.group([saved, lost, other], parsers=1) == [other]


@linux
def test_the_files_of_a_large_save_share_parsers_though_nobody_knows_them(
    plan: ParsePlan, store: Store
) -> None:
    files = {f"dag_{number:02}": "1" for number in range(plans.MANY)}
    plan.begin(ONE, store.save(ONE, **files))
    assert plan.group(files, parsers=1) == list(files)[: plans.MANY // 2]
    assert not plan.is_just_saved("dag_00")
    plan.begin(TWO, store.save(TWO, **files | {"dag_00": "2"}))
    assert plan.is_just_saved("dag_00"), "its author waits for it"
    assert "dag_00" not in plan.group(files, parsers=1)
    parse(plan, "dag_00")
    assert not plan.is_just_saved("dag_00")


# --- parses by the clock --------------------------------------------------------------------------


def test_only_what_reads_something_outside_is_parsed_by_the_clock(
    plan: ParsePlan, store: Store, clock: Clock
) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1", dag_b="1"))
    for name in ("dag_a", "dag_b"):
        parse(plan, name)
    plan.note_outside("dag_a", {"the network"})
    clock.now += 59.0
    assert plan.due(interval=60.0) == []
    clock.now += 1.0
    assert plan.due(interval=60.0) == ["dag_a"]
    parse(plan, "dag_a")
    assert plan.due(interval=60.0) == []
    plan.note_outside("dag_a", ())
    clock.now += 60.0
    assert plan.due(interval=60.0) == []


def test_parsing_by_the_clock_takes_a_small_part_of_a_core_however_many_files_there_are(
    plan: ParsePlan, store: Store, clock: Clock
) -> None:
    files = {f"dag_{number:03}": "1" for number in range(100)}
    plan.begin(ONE, store.save(ONE, **files))
    for name in files:
        parse(plan, name, seconds=1.0)
        plan.note_outside(name, {"the network"})
    clock.now += 100 / plans.REST_SHARE - 1
    assert plan.due(interval=60.0) == []
    clock.now += 100 * plans.STORING_SECONDS / plans.REST_SHARE + 2
    assert plan.due(interval=60.0) == list(files)


def test_where_nothing_would_end_the_forks_with_their_parser_no_file_shares_one(
    plan: ParsePlan, users: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert plan.group(users, parsers=2) == []


# --- variables and connections --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        ({"variables/currency"}, {"dag_a", "lists"}),
        ({"connections/supplier"}, {"dag_b"}),
        ({"connections/currency", "pools/currency"}, set()),
        ({"variables/other"}, {"lists"}),
    ],
)
def test_who_read_a_setting_is_known(plan: ParsePlan, changed: set[str], files: set[str]) -> None:
    plan.note_settings("dag_a", {"variables/currency"}, complete=True)
    plan.note_settings("dag_b", {"connections/supplier"}, complete=True)
    plan.note_settings("lists", {"variables/"}, complete=True)
    assert plan.readers(changed) == files


def test_a_parse_that_broke_early_keeps_what_is_known_of_its_settings(plan: ParsePlan) -> None:
    plan.note_settings("dag_a", {"variables/a"}, complete=True)
    plan.note_settings("dag_a", {"variables/b"}, complete=False)
    assert plan.readers({"variables/a"}) == plan.readers({"variables/b"}) == {"dag_a"}
    plan.note_settings("dag_a", {"variables/b"}, complete=True)
    assert plan.readers({"variables/a"}) == set()


def test_what_is_parsed_again_is_awaited(plan: ParsePlan, store: Store) -> None:
    plan.begin(ONE, store.save(ONE, dag_a="1"))
    parse(plan, "dag_a")
    assert plan.settled() is not None
    plan.parse_again(["dag_a"])
    assert plan.is_awaited("dag_a")
    assert plan.settled() is None
    parse(plan, "dag_a")
    assert plan.settled() is not None
