"""DAGs with every shape that the client reads; the contract tests copy it to a DAG folder."""

# mypy: ignore-errors
# Airflow is not installed in windsock's venv, so its decorators have no types here.

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import Asset, dag, get_current_context, task

CHANGED = Asset("windsock_contract_asset")
COUNTED = Asset("windsock_contract_counted")


@dag(schedule=None, tags=["windsock-contract"])
def contract_shapes() -> None:
    """Succeeds: a printed line, XComs of several types, a second try, mapped tasks, an asset."""

    @task
    def number() -> int:
        print("loaded three rows")  # noqa: T201 - the log is what is tested
        return 3

    @task
    def pair() -> tuple[int, int]:
        return (1, 2)

    @task
    def nothing() -> None: ...

    @task
    def items() -> list[int]:
        return [1, 2, 3]

    @task
    def square(value: int) -> int:
        return value * value

    @task(retries=1, retry_delay=timedelta(0))
    def flaky() -> str:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("the first try fails")
        return "second"

    @task(outlets=[CHANGED])
    def publish() -> None: ...

    number()
    pair()
    nothing()
    flaky()
    publish()
    square.expand(value=items())


@dag(schedule=[CHANGED], tags=["windsock-contract"])
def contract_consumer() -> None:
    """Runs when `contract_shapes` has changed its asset."""

    @task
    def consume() -> str:
        return "consumed"

    consume()


@dag(schedule=None, tags=["windsock-contract"])
def contract_producer() -> None:
    """Changes an asset, and nothing else."""

    @task(outlets=[COUNTED])
    def change() -> None: ...

    change()


@dag(schedule=[COUNTED], tags=["windsock-contract"])
def contract_counter() -> None:
    """Counts the changes that it is given."""

    @task
    def count(triggering_asset_events: dict) -> int:
        return len(triggering_asset_events[COUNTED])

    count()


@dag(schedule=None, tags=["windsock-contract"])
def contract_failing() -> None:
    """Fails in its first task."""

    @task
    def explode() -> None:
        raise RuntimeError("boom")

    @task
    def after() -> None: ...

    explode() >> after()


@dag(schedule=None, tags=["windsock-contract"])
def contract_group() -> None:
    """Fails with a group of exceptions that have notes."""

    @task
    def explode() -> None:
        error = ValueError("no day")
        error.add_note("see the settings")
        raise ExceptionGroup("bad config", [error, KeyError("region")])

    explode()


@dag(schedule=None, tags=["windsock-contract"])
def contract_endless() -> None:
    """Goes on for as long as nobody stops it."""

    @task
    def sleep() -> None:
        time.sleep(600)

    sleep()


contract_shapes()
contract_consumer()
contract_producer()
contract_counter()
contract_failing()
contract_group()
contract_endless()
