"""An asset's producer: when it is done, the DAGs that wait for this data run.

Try it: `invoke dags.trigger stock_report --wait`, and see `restock` run by itself.
"""

from typing import Any

from airflow.sdk import Param, dag, task
from corner_shop.assets import SHELF_STOCK


@dag(
    schedule=None,
    tags=["example", "asset"],
    params={
        "stock": Param({"bread": 2, "tea": 31}, additionalProperties={"type": "integer"}),
    },
)
def stock_report():
    """Tell how much stands on the shelves."""

    # `outlets` says what the task updates; Airflow records an event when it succeeds. What goes
    # into `extra` travels with the event, so the consumer sees *this* update: by the time it runs
    # there may have been another. Keep it small: a day, a path, a count.
    @task(outlets=[SHELF_STOCK])
    def report(params: dict[str, Any], outlet_events: Any) -> int:
        outlet_events[SHELF_STOCK].extra = {"stock": params["stock"]}
        return len(params["stock"])

    report()


stock_report()
