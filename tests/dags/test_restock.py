"""Whoever updates the shelves' stock makes `restock` run, with what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


def test_a_stock_report_orders_what_runs_low(airflow: RunningAirflow) -> None:
    airflow.unpause("restock")
    report = airflow.run("stock_report", conf={"stock": {"salt": 4, "tea": 31, "bread": 10}})
    assert report.state == "success"

    restock = airflow.wait_for_run("restock", after=report)

    assert restock.state == "success"
    assert restock.task("order").xcom()["salt"] == 6
    assert not {"tea", "bread"} & restock.task("order").xcom().keys()


def test_by_hand_there_is_nothing_to_order(airflow: RunningAirflow) -> None:
    run = airflow.run("restock")

    assert run.state == "success"
    assert run.task("order").xcom() == {}
