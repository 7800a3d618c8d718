"""DAGs whose runs wait, each for another reason; the tests copy it to a DAG folder."""

# mypy: ignore-errors
# Airflow is not installed in windsock's venv, so its decorators have no types here.

import time

from airflow.sdk import DAG, task


@task
def nap() -> None:
    time.sleep(600)


@task
def work() -> int:
    return 1


with DAG("waits_no_pool", schedule=None):
    work.override(pool="nope")()

with DAG("waits_pool_too_small", schedule=None):
    work.override(pool="windsock_narrow", pool_slots=3)()

with DAG("waits_pool_full", schedule=None):
    nap.override(task_id="holds", pool="windsock_narrow", priority_weight=9)()
    work.override(pool="windsock_narrow")()

with DAG("waits_active_tasks", schedule=None, max_active_tasks=1):
    nap.override(priority_weight=9)()
    work()

with DAG("waits_active_runs", schedule=None, max_active_runs=1):
    nap()
