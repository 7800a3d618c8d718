from __future__ import annotations

import re

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock, line_of
from windsock.errors import ConfigurationError, DagError, DeadlineExceeded
from windsock.testing.runs import Run


def squares(*states: str) -> list[FakeTask]:
    return [
        FakeTask("square", state=state, xcom=index * index, map_index=index)
        for index, state in enumerate(states, 1)
    ]


@pytest.fixture
def fake() -> FakeAirflow:
    return FakeAirflow(
        FakeDag(
            "sales",
            tasks=[
                FakeTask("extract", tries=2, log=[line_of("second try")]),
                FakeTask("load", xcom=3, log=[line_of("loaded three rows")]),
                FakeTask("nothing"),
                *squares("success", "success"),
            ],
        ),
        FakeDag(
            "broken",
            state="failed",
            tasks=[
                FakeTask("explode", state="failed"),
                FakeTask("after", state="upstream_failed", tries=0),
                *squares("success", "failed", "success"),
            ],
        ),
        FakeDag("never", looks=10**9, tasks=[FakeTask("sleep", state="running")]),
    )


def start(fake: FakeAirflow, dag_id: str, *, clock: VirtualClock | None = None) -> Run:
    used = clock or VirtualClock()
    api = fake.client(used)
    return Run(api, api.trigger(dag_id, run_id="r"), clock=used, sleep=used.sleep)


def finish(fake: FakeAirflow, dag_id: str) -> Run:
    return start(fake, dag_id).wait(timeout=5)


def test_a_run_has_its_state_and_duration(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    assert (run.state, run.run_id, run.duration) == ("success", "r", 10.0)
    assert run.url.endswith("/dags/sales/runs/r")


def test_a_failed_run_is_an_answer_not_an_error(fake: FakeAirflow) -> None:
    run = finish(fake, "broken")
    assert run.state == "failed"
    assert run.task("after").state == "upstream_failed"


def test_the_state_of_a_run_that_goes_on_is_asked_anew(fake: FakeAirflow) -> None:
    run = start(fake, "sales")
    assert [run.state, run.state, run.state] == ["running", "success", "success"]


def test_a_finished_run_is_asked_for_its_tasks_once(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    fake.requests.clear()
    assert run.task("load").state == run.task("nothing").state == "success"
    assert len(fake.requests) == 1


def test_a_task_has_its_xcom_and_attempts(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    assert run.task("load").xcom() == 3
    assert run.task("load").attempts == 1
    assert run.task("extract").attempts == 2
    assert run.task("load").duration == 1.0


def test_a_task_that_returned_none_has_the_xcom_none(fake: FakeAirflow) -> None:
    assert finish(fake, "sales").task("nothing").xcom() is None


def test_an_xcom_that_was_not_pushed_is_an_error(fake: FakeAirflow) -> None:
    with pytest.raises(DagError, match="load of sales \\(success\\) pushed no XCom 'total'"):
        finish(fake, "sales").task("load").xcom("total")
    del fake.runs["sales", "r"]
    with pytest.raises(DagError, match="explode of broken \\(failed\\) pushed no XCom"):
        finish(fake, "broken").task("explode").xcom()


def test_mapped_instances_come_in_the_order_of_their_index(fake: FakeAirflow) -> None:
    fake.dags["sales"].tasks.reverse()
    run = finish(fake, "sales")
    assert [task.xcom() for task in run.task("square").mapped] == [1, 4]
    assert run.task("square", map_index=2).xcom() == 4
    assert run.task("square", map_index=2).label == "square[2]"
    assert run.task("load").mapped == []


def test_ten_comes_after_nine() -> None:
    fake = FakeAirflow(FakeDag("sales", tasks=squares(*["success"] * 11)))
    mapped = finish(fake, "sales").task("square").mapped
    assert [task.map_index for task in mapped] == list(range(1, 12))


def test_a_single_mapped_instance_is_still_a_mapped_task() -> None:
    fake = FakeAirflow(FakeDag("sales", tasks=squares("success")))
    assert [task.xcom() for task in finish(fake, "sales").task("square").mapped] == [1]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("success", "success"), "success"),
        (("success", "failed", "running"), "failed"),
        (("success", "upstream_failed"), "upstream_failed"),
        (("skipped", "skipped"), "skipped"),
    ],
)
def test_the_state_of_a_mapped_task_is_the_worst_one(
    states: tuple[str, ...], expected: str
) -> None:
    fake = FakeAirflow(FakeDag("sales", tasks=squares(*states)))
    assert finish(fake, "sales").task("square").state == expected


def test_a_mapped_task_has_no_single_xcom_or_log(fake: FakeAirflow) -> None:
    task = finish(fake, "sales").task("square")
    with pytest.raises(ConfigurationError, match="a mapped task with 2 instances"):
        task.xcom()
    with pytest.raises(ConfigurationError, match=r"map_index=0\)\.logs\(\)"):
        task.logs()


def test_an_unknown_task_names_those_there_are(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    with pytest.raises(DagError, match="extract, load, nothing, square"):
        run.task("lod")
    with pytest.raises(DagError, match="Its map indexes: 1, 2"):
        run.task("square", map_index=7)
    with pytest.raises(DagError, match="it is not mapped"):
        run.task("load", map_index=0)


def test_logs_are_text(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    assert "INFO loaded three rows" in run.task("load").logs()
    assert "second try" in run.task("extract").logs()
    assert run.task("extract").logs(1)
    with pytest.raises(DagError, match="had no try 3"):
        run.task("extract").logs(3)


def test_a_task_that_never_started_has_an_empty_log(fake: FakeAirflow) -> None:
    assert finish(fake, "broken").task("after").logs() == ""


def test_the_last_lines_of_a_log_are_waited_for(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    fake.late_log_lines = [line_of("printed at the very end")]
    assert "printed at the very end" in run.task("load").logs()


def test_a_log_without_an_end_is_given_out_after_a_while(fake: FakeAirflow) -> None:
    class Clock(VirtualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            fake.late_log_lines = [line_of("more")]

    clock = Clock()
    run = start(fake, "sales", clock=clock).wait(timeout=5)
    assert "more" in run.task("load").logs()
    assert clock.now == pytest.approx(3.0, abs=0.2)


def test_a_run_that_does_not_finish_names_its_tasks_and_is_stopped(fake: FakeAirflow) -> None:
    fake.has_wait = False
    run = start(fake, "never")
    with pytest.raises(DeadlineExceeded, match="not finished after 2 s: sleep running") as caught:
        run.wait(timeout=2)
    assert run.url in caught.value.hint
    assert fake.runs["never", "r"]["state"] == "failed"


def test_a_run_that_ends_while_its_lateness_is_explained_is_not_late(fake: FakeAirflow) -> None:
    fake.has_wait = False
    run = start(fake, "never")

    def end_now(*_: object) -> dict[str, object]:
        fake.runs["never", "r"]["state"] = "success"
        return {"task_instances": [], "total_entries": 0}

    fake.routes.insert(0, ("GET", re.compile(".*/taskInstances"), end_now))
    assert run.wait(timeout=2).state == "success"


def test_stopping_a_finished_run_changes_nothing(fake: FakeAirflow) -> None:
    run = finish(fake, "sales")
    run.stop()
    assert run.state == "success"
