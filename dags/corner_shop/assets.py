"""The data that ties our DAGs together: one DAG updates an asset, others are scheduled on it."""

from airflow.sdk import Asset

SHELF_STOCK = Asset(name="shelf_stock", uri="x-corner-shop://shelves/stock")
"""How much stands on the shelves."""
