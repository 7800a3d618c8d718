"""Why runs wait, on a real Airflow: each reason comes from what Airflow does, not from a fake."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.airflow.conftest import delete_runs, eventually
from windsock.airflow.waiting import Reason, reasons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.airflow.api import Airflow
    from windsock.model import Environment

pytestmark = pytest.mark.e2e

FILE = "windsock_waiting_dags.py"
POOL = "windsock_narrow"
DAG_IDS = (
    "waits_active_runs",
    "waits_active_tasks",
    "waits_no_pool",
    "waits_pool_full",
    "waits_pool_too_small",
)


@pytest.fixture(scope="module")
def waiting(real_airflow: Airflow, real_environment: Environment) -> Iterator[Airflow]:
    """An Airflow in which a run of each DAG waits; of waits_active_runs there is a second one."""
    path = Path(real_environment.dags_folder) / FILE
    shutil.copy(Path(__file__).with_name("waiting_dags.py"), path)
    api = real_airflow
    api.change_objects("pools", write=[{"name": POOL, "slots": 1}])
    try:
        eventually(
            lambda: {*DAG_IDS} <= {dag.dag_id for dag in api.dags()},
            what="Airflow lists the DAGs that wait",
        )
        for dag_id in DAG_IDS:
            api.trigger(dag_id, run_id="first")
            api.pause(dag_id, paused=False)
        api.trigger("waits_active_runs", run_id="second")
        yield api
    finally:
        for dag_id in DAG_IDS:
            delete_runs(api, dag_id)
        path.unlink(missing_ok=True)
        api.change_objects("pools", delete=[POOL])


def eventually_told(api: Airflow, dag_id: str, code: str, run_id: str = "first") -> Reason:
    """The reason with a code, as soon as it is told."""
    found: list[Reason] = []

    def is_told() -> bool:
        found[:] = [item for item in reasons(api, dag_id, run_id) if item.code == code]
        return bool(found)

    eventually(is_told, what=f"{code} is told of {dag_id}")
    return found[0]


def test_a_pool_that_does_not_exist(waiting: Airflow) -> None:
    reason = eventually_told(waiting, "waits_no_pool", "no-pool")
    assert reason.message == "work: there is no pool 'nope'"


def test_a_task_that_needs_more_slots_than_its_pool_has(waiting: Airflow) -> None:
    reason = eventually_told(waiting, "waits_pool_too_small", "pool-too-small")
    assert reason.message == f"work: it needs 3 slots of the pool {POOL!r}, which has 1"


def test_a_pool_without_a_free_slot_names_who_holds_it(waiting: Airflow) -> None:
    reason = eventually_told(waiting, "waits_pool_full", "pool-full")
    assert reason.tasks == ("work",)
    assert reason.held_by == ("waits_pool_full first",)


def test_the_limit_of_active_tasks_names_the_active_one(waiting: Airflow) -> None:
    reason = eventually_told(waiting, "waits_active_tasks", "max-active-tasks")
    assert "now nap" in reason.message


def test_the_limit_of_active_runs_names_the_run_that_holds_it(waiting: Airflow) -> None:
    reason = eventually_told(waiting, "waits_active_runs", "max-active-runs", "second")
    assert reason.held_by == ("waits_active_runs first",)


def test_a_paused_dag(waiting: Airflow) -> None:
    waiting.pause("waits_active_runs", paused=True)
    try:
        assert eventually_told(waiting, "waits_active_runs", "paused", "second").hint
    finally:
        waiting.pause("waits_active_runs", paused=False)
