from __future__ import annotations

from typing import Any

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock
from windsock.airflow.api import NoAnswer
from windsock.airflow.waiting import FIRST_LOOK, LOOK_EVERY, Reason, Watch, reasons
from windsock.model import TaskPod

UNTOUCHED = ("Task Instance State", "Task is in the 'None' state.")
PAST = "1 previous task instance(s) are not in a successful state."
RULE = "Task's trigger rule 'all_success' requires all, but found 1 non-success(es)"


def reasons_of(*tasks: FakeTask, parallelism: int = 0, **of_the_dag: Any) -> list[Reason]:
    """Why a run of these tasks waits, in an Airflow with a pool of two slots, one of them free."""
    fake = FakeAirflow(FakeDag("sales", tasks=list(tasks), looks=10**9, **of_the_dag))
    fake.objects["pools"]["narrow"] = {"name": "narrow", "slots": 2, "open_slots": 1}
    fake.unmet = {
        "limited": [("A limit", "Task concurrency has been reached")],
        "untouched": [UNTOUCHED],
        "past": [
            ("Previous Dagrun State", f"depends_on_past is true for this task, but {PAST}"),
            UNTOUCHED,
        ],
        "after": [UNTOUCHED, ("Trigger Rule", f"{RULE}. upstream_states=_States(success=0), more")],
    }
    api = fake.client()
    api.trigger("sales", run_id="r")
    return reasons(api, "sales", "r", parallelism=parallelism)


def scheduled(task_id: str = "load", **changes: Any) -> FakeTask:
    return FakeTask(task_id, state="scheduled", **changes)


RUNS = FakeTask("extract", state="running")


@pytest.mark.parametrize(
    ("tasks", "options", "code", "words"),
    [
        ([], {"paused": True}, "paused", "sales is paused"),
        ([RUNS], {"stale": False, "paused": True}, "paused", "sales is paused"),
        ([scheduled(pool="nope")], {}, "no-pool", "load: there is no pool 'nope'"),
        (
            [scheduled(pool="narrow", pool_slots=3)],
            {},
            "pool-too-small",
            "load: it needs 3 slots of the pool 'narrow', which has 2",
        ),
        (
            [scheduled(pool="narrow", pool_slots=2), FakeTask("a", state="running", pool="narrow")],
            {},
            "pool-full",
            "load: the pool 'narrow' has 2 slots and 1 free, held by sales.a of r",
        ),
        (
            [scheduled(), RUNS],
            {"max_active_tasks": 1},
            "max-active-tasks",
            "load: a run of sales has 1 active task at most (max_active_tasks), now extract",
        ),
        (
            [scheduled(), RUNS],
            {"parallelism": 1},
            "no-executor-slot",
            "load: no slot of the executor is free; its 1 are held by sales.extract of r",
        ),
        ([scheduled("limited")], {}, "unmet", "limited: Task concurrency has been reached"),
        ([FakeTask("load", state="queued")], {}, "queued", "load: the executor has it"),
        ([RUNS], {}, "running", "extract runs"),
        ([FakeTask("wait", state="deferred")], {}, "deferred", "wait has handed its waiting"),
        ([FakeTask("a", state="failed"), RUNS], {}, "failed", "a failed; the run ends"),
        (
            [FakeTask("b", state="upstream_failed"), RUNS],
            {},
            "upstream-failed",
            "b does not start, since a task before it failed",
        ),
        (
            [FakeTask("past", state=None, tries=0)],
            {},
            "depends-on-past",
            f"past: depends_on_past is true for this task, but {PAST}".rstrip("."),
        ),
        (
            [FakeTask("a", state="failed"), FakeTask("after", state=None, tries=0)],
            {},
            "trigger-rule",
            f"after: {RULE}",
        ),
        ([scheduled()], {}, "not-looked-at", "the scheduler has not looked at the run again"),
    ],
)
def test_each_reason_is_told_apart(
    tasks: list[FakeTask], options: dict[str, Any], code: str, words: str
) -> None:
    found = {reason.code: reason for reason in reasons_of(*tasks, **options)}
    assert words in found[code].message


def test_a_queued_task_waits_for_its_pod_where_one_is_known() -> None:
    tasks = [FakeTask(name, state="queued") for name in ("a", "b", "c")]
    api = FakeAirflow(FakeDag("sales", tasks=tasks, looks=10**9)).client()
    api.trigger("sales", run_id="r")
    pods = [
        TaskPod(task_id=name, map_index=-1, why="its pod is refused", hint="free some")
        for name in ("a", "c", "gone")
    ]
    asked: list[tuple[str, str]] = []

    def look(dag_id: str, run_id: str) -> list[TaskPod]:
        asked.append((dag_id, run_id))
        return pods

    pod, queued = reasons(api, "sales", "r", pods=look)
    assert (pod.code, pod.message, pod.hint) == ("pod", "a, c: its pod is refused", "free some")
    assert (queued.code, queued.tasks) == ("queued", ("b",))
    assert asked == [("sales", "r")]


def test_the_run_that_holds_the_slot_is_named() -> None:
    fake = FakeAirflow(FakeDag("sales", looks=10**9, max_active_runs=1))
    api = fake.client()
    api.trigger("sales", run_id="first")
    api.run("sales", "first")
    api.trigger("sales", run_id="second")
    fake.dags["sales"].looks = 0
    fake._look = lambda identity: fake.runs[identity]  # type: ignore[method-assign] # time stands still
    [reason] = reasons(api, "sales", "second")
    assert reason.message == "sales allows 1 active runs (max_active_runs), held by first"
    assert reason.held_by == ("sales first",)
    assert reason.as_json()["code"] == "max-active-runs"


def test_a_dag_that_allows_no_run_says_so() -> None:
    fake = FakeAirflow(FakeDag("sales", max_active_runs=0))
    api = fake.client()
    api.trigger("sales", run_id="r")
    fake._look = lambda identity: fake.runs[identity]  # type: ignore[method-assign] # time stands still
    [reason] = reasons(api, "sales", "r")
    assert reason.message == "sales allows 0 active runs (max_active_runs): none ever starts"


def test_a_scheduler_that_is_away_comes_first() -> None:
    fake = FakeAirflow(FakeDag("sales", tasks=[RUNS], looks=10**9))
    fake.health["scheduler"]["status"] = "unhealthy"
    api = fake.client()
    api.trigger("sales", run_id="r")
    found = reasons(api, "sales", "r")
    assert [reason.code for reason in found] == ["scheduler-away", "running"]
    assert "since 2026-11-22T15:36:10" in found[0].message
    assert "invoke restart scheduler" in found[0].hint


def test_a_run_that_has_ended_waits_for_nothing() -> None:
    fake = FakeAirflow(FakeDag("sales", looks=1))
    api = fake.client()
    api.trigger("sales", run_id="r")
    assert reasons(api, "sales", "r") == []


def test_of_a_task_that_is_not_looked_at_yet_no_rule_is_blamed() -> None:
    before = FakeTask("a", state="success", downstream=("untouched",))
    [reason] = reasons_of(before, FakeTask("untouched", state=None, depends_on_past=True))
    assert reason.code == "not-looked-at"


def test_pythons_text_is_no_part_of_a_reason() -> None:
    assert "upstream_states" not in str(reasons_of(FakeTask("after", state=None)))


def test_a_watch_tells_each_news_once_and_asks_seldom() -> None:
    clock = VirtualClock()
    paused = Reason(code="paused", message="sales is paused")
    runs = Reason(code="running", message="a runs", tasks=("a",))
    answers: list[list[Reason] | NoAnswer] = [
        [paused],
        [paused],
        [runs, paused],
        NoAnswer("no answer"),
        [runs],
    ]
    asked = 0
    told: list[list[Reason]] = []

    def look() -> list[Reason]:
        nonlocal asked
        answer = answers[asked]
        asked += 1
        if isinstance(answer, NoAnswer):
            raise answer
        return answer

    watch = Watch(look, told.append, clock=clock)
    watch()
    assert asked == 0
    clock.now = FIRST_LOOK
    for _ in answers:
        watch()
        watch()
        clock.now += LOOK_EVERY
    assert asked == len(answers)
    assert [[reason.code for reason in news] for news in told] == [
        ["paused"],
        ["running"],
        ["no-answer"],
        ["running"],
    ]
