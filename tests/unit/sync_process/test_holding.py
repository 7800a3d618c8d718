from __future__ import annotations

import json
import os
import re
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, refused
from windsock.sync_process.holding import FILE, Hold, Holds

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fake() -> FakeAirflow:
    fake = FakeAirflow(FakeDag("sales", paused=True, looks=3), FakeDag("open", looks=3))
    fake.client().trigger("sales", run_id="first")
    fake.client().trigger("sales", run_id="second")
    return fake


def make(folder: Path, fake: FakeAirflow) -> Holds:
    return Holds(folder / FILE, fake.client)


def of_run(run_id: str) -> Hold:
    return Hold(run_id=run_id, pid=os.getpid(), owner=run_id)


def test_a_dag_is_unpaused_until_its_run_has_ended(tmp_path: Path, fake: FakeAirflow) -> None:
    holds = make(tmp_path, fake)
    assert holds.hold("sales", of_run("first"))
    assert not fake.dags["sales"].paused
    for _ in range(4):
        holds.look()
    assert fake.runs["sales", "first"]["state"] == "success"
    assert fake.dags["sales"].paused


def test_two_runs_of_one_dag_hold_it_until_the_second_has_ended(
    tmp_path: Path, fake: FakeAirflow
) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    holds.hold("sales", of_run("second"))
    holds.release("sales", "first")
    assert not fake.dags["sales"].paused
    holds.release("sales", "second")
    assert fake.dags["sales"].paused
    holds.release("sales", "second")  # Nobody holds it any more.


def test_a_dag_that_was_not_paused_stays_so(tmp_path: Path, fake: FakeAirflow) -> None:
    holds = make(tmp_path, fake)
    assert not holds.hold("open", of_run("any"))
    holds.release("open", "any")
    holds.look()
    assert not fake.dags["open"].paused


def test_a_hold_without_a_run_ends_with_its_process(tmp_path: Path, fake: FakeAirflow) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", Hold(run_id="", pid=os.getpid(), owner="test 1"))
    holds.look()
    assert not fake.dags["sales"].paused
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    holds.hold("sales", Hold(run_id="", pid=gone, owner="test 2"))
    holds.release("sales", "test 1")
    holds.look()
    assert fake.dags["sales"].paused


def test_what_the_schedule_starts_meanwhile_is_stopped_and_deleted(
    tmp_path: Path, fake: FakeAirflow
) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    unasked = fake._start("sales", "scheduled__2026", conf={}, run_type="scheduled")
    unasked["queued_at"] = "2020-01-01T00:00:00Z"  # The cluster's clock may be any other one.
    holds.look()
    assert unasked["state"] == "failed"
    holds.release("sales", "first")
    assert list(fake.runs) == [("sales", "first"), ("sales", "second")]


def test_a_scheduled_run_that_has_ended_between_two_looks_is_deleted(
    tmp_path: Path, fake: FakeAirflow
) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    unasked = fake._start("sales", "scheduled__2026", conf={}, run_type="scheduled")
    unasked["state"] = "success"
    holds.release("sales", "first")
    assert list(fake.runs) == [("sales", "first"), ("sales", "second")]


def test_scheduled_runs_from_before_are_left_alone(tmp_path: Path, fake: FakeAirflow) -> None:
    before = fake._start("sales", "scheduled__2020", conf={}, run_type="scheduled")
    before["queued_at"] = "2999-01-01T00:00:00Z"  # The cluster's clock may be any other one.
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    holds.look()
    holds.release("sales", "first")
    assert fake.runs["sales", "scheduled__2020"]["state"] == "queued"


def test_holds_survive_the_sync_process(tmp_path: Path, fake: FakeAirflow) -> None:
    make(tmp_path, fake).hold("sales", of_run("first"))
    later = make(tmp_path, fake)
    assert not fake.dags["sales"].paused
    for _ in range(4):
        later.look()
    assert fake.dags["sales"].paused
    assert make(tmp_path, fake).hold("sales", of_run("second")), "it is known as paused again"


def test_an_airflow_that_is_away_is_asked_again(tmp_path: Path, fake: FakeAirflow) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    routes = list(fake.routes)
    fake.routes[:] = [("PATCH", routes[0][1], lambda *_: refused(503, "away"))]
    fake.routes += [
        (method, pattern, lambda *_: refused(503, "away")) for method, pattern, _ in routes
    ]
    holds.look()
    fake.routes[:] = routes
    for _ in range(4):
        holds.look()
    assert fake.dags["sales"].paused


@pytest.mark.parametrize("restarted", [False, True])
def test_a_dag_that_is_gone_is_forgotten_and_the_others_are_looked_after(
    tmp_path: Path, fake: FakeAirflow, restarted: bool
) -> None:
    fake.dags = {"gone": FakeDag("gone", paused=True), **fake.dags}
    fake.client().trigger("gone", run_id="lost")
    holds = make(tmp_path, fake)
    holds.hold("gone", of_run("lost"))
    holds.hold("sales", of_run("first"))
    del fake.dags["gone"]
    if restarted:
        holds = make(tmp_path, fake)
    for _ in range(4):
        holds.look()
    assert fake.dags["sales"].paused
    assert (tmp_path / FILE).read_text() == "{}\n"


def test_a_dag_that_is_gone_can_be_released(tmp_path: Path, fake: FakeAirflow) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    del fake.dags["sales"]
    holds.release("sales", "first")
    assert (tmp_path / FILE).read_text() == "{}\n"


def test_a_dag_that_airflow_fails_at_does_not_keep_the_others_unpaused(
    tmp_path: Path, fake: FakeAirflow
) -> None:
    fake.dags = {"ill": FakeDag("ill", paused=True), **fake.dags}
    holds = make(tmp_path, fake)
    holds.hold("ill", of_run("lost"))
    holds.hold("sales", of_run("first"))
    failing = re.compile("/dags/ill/dagRuns")
    fake.routes.insert(0, ("GET", failing, lambda *_: refused(500, "a bug")))
    for _ in range(4):
        holds.look()
    assert fake.dags["sales"].paused
    del fake.routes[0]
    holds.look()
    assert fake.dags["ill"].paused


def test_what_is_no_airflow_at_its_port_does_not_end_the_looks(
    tmp_path: Path, fake: FakeAirflow
) -> None:
    holds = make(tmp_path, fake)
    holds.hold("sales", of_run("first"))
    routes = list(fake.routes)
    pages = 3

    def page(*_: object) -> httpx.Response:
        nonlocal pages
        pages -= 1
        if not pages:
            fake.routes[:] = routes
        return httpx.Response(200, text="<html>")

    fake.routes[:] = [(method, pattern, page) for method, pattern, _ in routes]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout
            return fake.dags["sales"].paused

    holds.run(Stop())
    assert not pages


def test_the_file_of_an_older_windsock_is_taken(tmp_path: Path, fake: FakeAirflow) -> None:
    scheduled = fake._start("sales", "scheduled__2020", conf={}, run_type="scheduled")
    make(tmp_path, fake).hold("sales", of_run("first"))
    values = json.loads((tmp_path / FILE).read_text())
    del values["sales"]["before"]
    values["sales"]["since"] = "2020-01-01T00:00:00+00:00"
    (tmp_path / FILE).write_text(json.dumps(values))
    later = make(tmp_path, fake)
    for _ in range(4):
        later.look()
    assert fake.dags["sales"].paused
    assert scheduled["state"] == "queued"


def test_a_damaged_file_holds_nothing(tmp_path: Path, fake: FakeAirflow) -> None:
    (tmp_path / FILE).write_text('{"sales": 3}')
    make(tmp_path, fake).look()
    assert fake.dags["sales"].paused
