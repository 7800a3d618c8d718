"""The one way to the warehouse, a PostgreSQL database.

Every environment provides the connection `warehouse` (on your machine as `AIRFLOW_CONN_WAREHOUSE`),
so a DAG knows its name and never where it is.
"""

from typing import Any

CONNECTION = "warehouse"

ONE_WRITER_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('corner_shop'))"
"""Held until the transaction ends.

Runs may overlap, and two that both `CREATE TABLE IF NOT EXISTS` at once, or both replace the same
day, get in each other's way. In a small warehouse taking turns is cheaper than thinking about it.
"""


def write(*statements: str, **values: Any) -> None:
    """Run statements in one transaction: all of them happen, or none.

    Args:
        statements: SQL with `%(name)s` where a value goes.
        values: The values. The driver sends them apart from the SQL, so quotes in them are safe.
    """
    _hook().run([ONE_WRITER_AT_A_TIME, *statements], parameters=values)


def read(query: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, with values given as in `write`."""
    return _hook().get_records(query, parameters=values)


def _hook() -> Any:
    # Imported here because it takes 0.3 s and a DAG file is parsed after every save, while only a
    # running task needs it. Top-level imports of a DAG file are worth a look for the same reason.
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415 - see above

    return PostgresHook(postgres_conn_id=CONNECTION)
