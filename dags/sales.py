"""Extract, transform, load: a day's orders from the till into the warehouse.

Try it: `invoke dags.trigger sales --wait`, twice. The second load replaces the first.
"""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow.sdk import Param, dag, task
from corner_shop import till, warehouse

CREATE_SALES = """
    CREATE TABLE IF NOT EXISTS sales (
        day date, order_id text PRIMARY KEY, product text, quantity integer, cents integer
    )
"""
FORGET_THE_DAY = "DELETE FROM sales WHERE day = %(day)s"
LOAD_THE_DAY = """
    INSERT INTO sales (day, order_id, product, quantity, cents)
    SELECT %(day)s, order_id, product, quantity, cents
    FROM json_to_recordset(%(sales)s::json)
        AS sale (order_id text, product text, quantity integer, cents integer)
"""


@dag(
    schedule=None,  # It runs when asked. A daily shop would say "@daily".
    tags=["example", "etl"],
    # Params are the run's arguments: typed, with defaults, checked before anything runs, and a form
    # in the UI. `--conf '{"day": "2026-02-03"}'` overrides them.
    params={
        "day": Param("2026-01-31", type="string", format="date"),
        "orders": Param(12, type="integer", minimum=0, maximum=1000),
    },
)
def sales():
    """A day's orders, from the till into the warehouse."""

    # What a task returns travels to the next as an XCom, through Airflow's database. That suits
    # some hundred rows, and works where every task runs in a pod of its own: local files do not.
    @task
    def extract(params: dict[str, Any]) -> list[dict[str, Any]]:
        return till.orders_of(params["day"], count=params["orders"])

    @task
    def transform(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "order_id": order["order_id"],
                "product": order["product"],
                "quantity": order["quantity"],
                # Money in whole cents: sums of floats drift.
                "cents": int(Decimal(order["price"]) * 100) * order["quantity"],
            }
            for order in orders
            if not order["cancelled"]
        ]

    # Idempotent: the day is replaced whole, in one transaction. A retry or a second run leaves the
    # same rows, an order that the till no longer knows goes, and no reader ever sees half a day.
    # (Inserting with ON CONFLICT would keep the rows that are gone from the source.)
    @task(retries=1, retry_delay=timedelta(seconds=2))
    def load(sales: list[dict[str, Any]], params: dict[str, Any]) -> int:
        warehouse.write(
            CREATE_SALES,
            FORGET_THE_DAY,
            LOAD_THE_DAY,
            day=params["day"],
            sales=json.dumps(sales),
        )
        return len(sales)

    # Trust nothing that was not read back.
    @task
    def check(loaded: int, params: dict[str, Any]) -> dict[str, int]:
        [(rows, cents)] = warehouse.read(
            "SELECT count(*), coalesce(sum(cents), 0) FROM sales WHERE day = %(day)s",
            day=params["day"],
        )
        if rows != loaded:
            raise ValueError(f"{loaded} orders were loaded, the warehouse has {rows}")
        return {"orders": rows, "cents": int(cents)}

    check(load(transform(extract())))


sales()
