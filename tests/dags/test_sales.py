"""The load is right, and running it again is harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


def test_a_day_reaches_the_warehouse_without_its_cancelled_orders(airflow: RunningAirflow) -> None:
    run = airflow.run("sales", conf={"day": "1999-01-01", "orders": 5})

    assert run.state == "success"
    assert len(run.task("extract").xcom()) == 5
    # `check` reads what the warehouse has: 2 apples, 3 tea, 1 bread and 2 apples.
    assert run.task("check").xcom() == {"orders": 4, "cents": 390 + 1230 + 240 + 390}


def test_a_second_load_of_a_day_replaces_the_first(airflow: RunningAirflow) -> None:
    day = "1999-01-02"
    for orders, left in ((9, 8), (9, 8), (2, 2)):
        run = airflow.run("sales", conf={"day": day, "orders": orders})

        assert run.state == "success"
        assert run.task("check").xcom()["orders"] == left


def test_a_day_without_orders_is_a_day(airflow: RunningAirflow) -> None:
    run = airflow.run("sales", conf={"day": "1999-01-03", "orders": 0})

    assert run.state == "success"
    assert run.task("check").xcom() == {"orders": 0, "cents": 0}
