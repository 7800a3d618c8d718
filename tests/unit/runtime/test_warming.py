from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.warming import SMALL_DAG, Remembered, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_an_adapter_is_made_once_for_each_type_however_it_is_asked_for() -> None:
    made: list[object] = []

    def adapter(wanted: object) -> list[object]:
        made.append(wanted)
        return [wanted]

    remembered = Remembered(adapter)
    first = remembered(int)
    assert remembered[int](int) is first
    assert remembered(str) == [str]
    assert made == [int, str]


def test_a_type_that_cannot_be_hashed_has_its_adapter_too() -> None:
    wanted: list[int] = [1]
    remembered = Remembered(lambda item: [item])
    assert remembered(wanted) is remembered(wanted)


def test_without_airflow_nothing_happens_and_the_collector_works() -> None:
    warm_up()
    assert gc.isenabled()


def test_the_small_dag_is_python() -> None:
    compile(SMALL_DAG, "warming.py", "exec")
