from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.airflow.conftest import (
    BROKEN_FILE,
    DAG_FILE,
    DAG_IDS,
    PATIENCE,
    Subject,
    eventually,
    line_of_the_group,
)
from windsock.airflow.api import NotFound, RequestRefused
from windsock.airflow.failure import explain_failure
from windsock.errors import ConfigurationError, DeadlineExceeded
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from windsock.airflow.records import DagRun


def finished(subject: Subject, dag_id: str) -> DagRun:
    subject.api.trigger(dag_id, run_id=subject.run_id, conf={"day": "2026-01-01"})
    return subject.api.wait(dag_id, subject.run_id, timeout=PATIENCE)


def test_the_version_is_that_of_the_lock(subject: Subject) -> None:
    assert subject.api.version().startswith("3.3.")


def test_dags_are_listed_with_their_file(subject: Subject) -> None:
    listed = {dag.dag_id: dag for dag in subject.api.dags()}
    assert {*DAG_IDS} <= listed.keys()
    assert list(listed) == sorted(listed)
    assert listed["contract_shapes"].file == DAG_FILE
    assert not listed["contract_shapes"].stale
    assert listed["contract_shapes"] == subject.api.dag("contract_shapes")


def test_what_does_not_exist_is_not_found(subject: Subject) -> None:
    with pytest.raises(NotFound, match="nope"):
        subject.api.dag("nope")
    with pytest.raises(NotFound, match="nope"):
        subject.api.run("contract_shapes", "nope")
    with pytest.raises(NotFound, match="nope"):
        subject.api.wait("contract_shapes", "nope", timeout=5)
    with pytest.raises(NotFound, match="nope"):
        subject.api.trigger("nope")


def test_tasks_of_a_dag(subject: Subject) -> None:
    tasks = set(subject.api.tasks("contract_shapes"))
    assert {"number", "square", "flaky"} <= tasks


def test_a_dag_is_paused_and_unpaused(subject: Subject) -> None:
    subject.api.pause("contract_endless", paused=True)
    assert subject.api.dag("contract_endless").paused
    subject.api.pause("contract_endless", paused=False)
    assert not subject.api.dag("contract_endless").paused


def test_a_run_that_succeeds_with_all_that_it_left(subject: Subject) -> None:
    api, run_id = subject.api, subject.run_id
    run = finished(subject, "contract_shapes")
    assert (run.state, run.run_id, run.conf) == ("success", run_id, {"day": "2026-01-01"})
    assert run.ended is not None
    instances = api.task_instances("contract_shapes", run_id)
    assert {item.state for item in instances} == {"success"}
    squares = sorted(item.map_index for item in instances if item.task_id == "square")
    assert squares == [0, 1, 2]
    assert [item.try_number for item in instances if item.task_id == "flaky"] == [2]
    tries = api.tries("contract_shapes", run_id, "flaky")
    assert [(item.try_number, item.state) for item in tries] == [(1, "failed"), (2, "success")]
    assert len(api.tries("contract_shapes", run_id, "square", map_index=1)) == 1


def test_xcoms_come_back_as_they_were_returned(subject: Subject) -> None:
    finished(subject, "contract_shapes")

    def value(task_id: str, **where: int) -> object:
        return subject.api.xcom("contract_shapes", subject.run_id, task_id, **where)  # type: ignore[arg-type] # map_index only

    assert value("number") == 3
    assert value("pair") == (1, 2)
    assert value("items") == [1, 2, 3]
    assert value("square", map_index=2) == 9
    with pytest.raises(NotFound, match="return_value"):
        value("nothing")


def test_logs_of_each_try(subject: Subject) -> None:
    finished(subject, "contract_shapes")

    def text(task_id: str, try_number: int) -> str:
        lines = subject.api.log("contract_shapes", subject.run_id, task_id, try_number=try_number)
        return "\n".join(line.text() for line in lines)

    eventually(lambda: "loaded three rows" in text("number", 1), what="the line is in the log")
    assert text("flaky", 1)
    with pytest.raises(NotFound):
        text("flaky", 3)


def test_a_run_that_fails(subject: Subject) -> None:
    assert finished(subject, "contract_failing").state == "failed"
    assert subject.api.ends("contract_failing", subject.run_id) == {}  # It ended by itself.
    instances = subject.api.task_instances("contract_failing", subject.run_id)
    assert {(item.task_id, item.state, item.try_number) for item in instances} == {
        ("explode", "failed", 1),
        ("after", "upstream_failed", 0),
    }


def test_a_group_that_a_task_raised_is_explained(subject: Subject) -> None:
    run = finished(subject, "contract_group")
    failure = explain_failure(subject.api, run, places=Places("/home/me/dags"))
    [task] = failure.tasks
    assert task.headline == "ExceptionGroup: bad config (2 sub-exceptions)"
    assert task.place == f"/home/me/dags/{DAG_FILE}:{line_of_the_group()}"
    start = task.log.index(task.headline)
    assert task.log[start + 1 : start + 6] == (
        "  sub-exception 1 of 2:",
        "    ValueError: no day",
        "    see the settings",
        "  sub-exception 2 of 2:",
        "    KeyError: 'region'",
    )


def test_a_run_id_is_taken_once_and_must_fit(subject: Subject) -> None:
    subject.api.trigger("contract_failing", run_id=subject.run_id)
    with pytest.raises(RequestRefused, match="Unique constraint") as caught:
        subject.api.trigger("contract_failing", run_id=subject.run_id)
    assert caught.value.status == 409
    with pytest.raises(RequestRefused, match="does not match regex"):
        subject.api.trigger("contract_failing", run_id="a b")


def test_a_run_that_goes_on_is_waited_for_stopped_and_deleted(subject: Subject) -> None:
    api, run_id = subject.api, subject.run_id
    api.trigger("contract_endless", run_id=run_id)
    eventually(
        lambda: api.run("contract_endless", run_id).state == "running", what="the run has started"
    )
    with pytest.raises(DeadlineExceeded, match="still running"):
        api.wait("contract_endless", run_id, timeout=1)
    with pytest.raises(RequestRefused, match="cannot be deleted in running state"):
        api.delete_run("contract_endless", run_id)
    assert api.stop("contract_endless", run_id).state == "failed"
    api.delete_run("contract_endless", run_id)
    with pytest.raises(NotFound):
        api.run("contract_endless", run_id)


def test_an_asset_change_names_the_run_it_started(subject: Subject) -> None:
    finished(subject, "contract_shapes")

    def started() -> list[tuple[str, str]]:
        events = subject.api.asset_events("contract_shapes", subject.run_id)
        return [run for event in events for run in event.runs]

    eventually(lambda: bool(started()), what="the consumer has a run")
    dag_id, run_id = started()[0]
    assert dag_id == "contract_consumer"
    assert subject.api.wait(dag_id, run_id, timeout=PATIENCE).state == "success"
    subject.api.delete_run(dag_id, run_id)


def test_a_file_that_does_not_import_is_told_with_its_traceback(subject: Subject) -> None:
    def broken() -> dict[str, str]:
        return {item.file: item.traceback for item in subject.api.import_errors()}

    subject.break_file(True)
    eventually(lambda: BROKEN_FILE in broken(), what="the import error is listed")
    assert "ModuleNotFoundError" in broken()[BROKEN_FILE]
    subject.break_file(False)
    eventually(lambda: BROKEN_FILE not in broken(), what="the import error is gone")


def test_a_password_is_masked_and_goes_only_with_its_connection(subject: Subject) -> None:
    api, name = subject.api, "windsock_contract"

    def shown() -> dict[str, object]:
        return {str(i["connection_id"]): i["password"] for i in api.objects("connections")}

    body = {"connection_id": name, "conn_type": "http", "password": "not-told"}
    try:
        api.change_objects("connections", write=[body])
        assert shown()[name] == "***"
        api.change_objects("connections", write=[{**body, "password": None}])
        assert shown()[name] == "***"
        api.change_objects("connections", write=[body], delete=[name])
        assert name not in shown()
        api.change_objects("connections", write=[{**body, "password": None}])
        assert not shown()[name]
    finally:
        api.change_objects("connections", delete=[name, "windsock_contract_missing"])
    assert name not in shown()


def test_a_refused_connection_is_told_without_its_password(subject: Subject) -> None:
    body = {"connection_id": "a b", "conn_type": "http", "password": "not-told"}
    with pytest.raises(ConfigurationError, match="connection_id: String should match") as caught:
        subject.api.change_objects("connections", write=[body])
    assert "not-told" not in str(caught.value)
