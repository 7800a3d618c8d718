"""An asset's consumer: it runs when the data is there, not at an hour when it should be.

Try it: see `stock_report`. Neither DAG names the other; what ties them is the asset.
"""

from typing import Any

from airflow.sdk import dag, task
from corner_shop.assets import SHELF_STOCK

ENOUGH = 10


@dag(schedule=[SHELF_STOCK], tags=["example", "asset"])
def restock():
    """Order what runs low."""

    # A run may have been caused by several updates that came while an earlier run was busy. Later
    # ones win. Started by hand, a run has no events, and orders nothing.
    @task
    def order(triggering_asset_events: Any) -> dict[str, int]:
        stock: dict[str, int] = {}
        for event in triggering_asset_events[SHELF_STOCK]:
            stock |= event.extra["stock"]
        return {product: ENOUGH - left for product, left in stock.items() if left < ENOUGH}

    order()


restock()
