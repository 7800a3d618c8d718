from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock, line_of
from windsock.airflow.records import TaskInstance
from windsock.testing.report import section, timeline
from windsock.testing.runs import Run

START = datetime(2026, 1, 1, tzinfo=UTC)


def instance(
    task_id: str, *, start: float | None, length: float | None = 1.0, try_number: int = 1
) -> TaskInstance:
    started = None if start is None else START + timedelta(seconds=start)
    ended = None if started is None or length is None else started + timedelta(seconds=length)
    return TaskInstance(
        task_id=task_id,
        map_index=-1,
        state="success",
        try_number=try_number,
        started=started,
        ended=ended,
        bundle_version=None,
    )


def finish(fake: FakeAirflow, dag_id: str) -> Run:
    clock = VirtualClock()
    api = fake.client(clock)
    run = Run(api, api.trigger(dag_id, run_id="r"), clock=clock, sleep=clock.sleep)
    return run.wait(timeout=5)


def test_the_timeline_shows_each_try_where_it_was() -> None:
    tries = [
        instance("extract", start=0.0, length=1.0),
        instance("load", start=2.0, length=2.0, try_number=2),
    ]
    assert timeline(tries, start=START).splitlines() == [
        "task     try  state               start   duration",
        "extract    1  success            0.00 s     1.00 s  ########",
        "load       2  success            2.00 s     2.00 s                  ################",
    ]


def test_the_timeline_shows_what_has_not_ended_or_not_started() -> None:
    tries = [
        instance("done", start=0.0, length=4.0),
        instance("sleep", start=2.0, length=None),
        instance("after", start=None),
    ]
    lines = timeline(tries, start=START).splitlines()
    assert lines[2].endswith("…                  ###############>")
    assert lines[3] == "after    1  success"


def test_the_timeline_of_a_run_that_never_started() -> None:
    assert timeline([], start=None) == ""
    assert timeline([instance("a", start=None)], start=None).splitlines()[1] == "a       1  success"


def test_a_section_has_the_page_the_timeline_and_the_failed_log() -> None:
    log = [line_of(f"line {number}") for number in range(100)]
    fake = FakeAirflow(
        FakeDag(
            "sales",
            state="failed",
            tasks=[
                FakeTask("extract", tries=2, log=[line_of("not shown")]),
                FakeTask("load", state="failed", log=log),
                FakeTask("after", state="upstream_failed", tries=0),
            ],
        )
    )
    run = finish(fake, "sales")
    title, text = section(run)
    assert title == "DAG run sales"
    assert f"failed  {run.url}" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("extract")] == [
        ["extract", "1", "failed"],
        ["extract", "2", "success"],
    ]
    assert "--- load, try 1: it ended without an exception" in text
    assert "line 99" in text
    assert "line 39\n" not in text
    assert "::group::" not in text
    assert "not shown" not in text


def test_a_hundred_failures_show_five_logs() -> None:
    tasks = [FakeTask("t", state="failed", map_index=index) for index in range(100)]
    run = finish(FakeAirflow(FakeDag("sales", state="failed", tasks=tasks)), "sales")
    text = section(run)[1]
    assert text.count("--- t[") == 5
    assert "(95 more failed tasks" in text


def test_a_section_never_fails() -> None:
    fake = FakeAirflow(FakeDag("sales", state="failed", tasks=[FakeTask("load", state="failed")]))
    run = finish(fake, "sales")
    fake.routes.clear()
    text = section(run)[1]
    assert text.startswith(run.url)
    assert "Airflow shows no more of it: " in text
