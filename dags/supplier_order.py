"""Connections, variables and pools: what differs between environments stays out of the code.

They come from `airflow_settings.yaml`. Change a value there while `invoke up` runs, trigger again.
"""

from typing import Any

from airflow.sdk import Connection, Param, Variable, dag, task


@dag(
    schedule=None,
    tags=["example", "settings"],
    params={"crates": Param(4, type="integer", minimum=1)},
)
def supplier_order():
    """Write an order to the supplier, as its API wants it."""

    # Both are read inside the task. At the top of the file they would be read at every parse, and a
    # missing one would be an import error of the DAG instead of a failed task.
    # The pool has one slot, because the supplier takes one order at a time: however many runs there
    # are, only one of these tasks runs.
    @task(pool="supplier")
    def write_order(params: dict[str, Any]) -> dict[str, Any]:
        supplier = Connection.get("supplier")
        terms = Variable.get("supplier_terms", deserialize_json=True)
        # The password would go into a header. It never goes into an XCom, which anybody with
        # access to the UI can read.
        return {
            "url": f"{supplier.schema}://{supplier.host}:{supplier.port}/orders",
            "customer": supplier.login,
            "warehouse": supplier.extra_dejson["warehouse"],
            "crates": params["crates"],
            "bottles": params["crates"] * terms["bottles_per_crate"],
            "pay_within_days": terms["pay_within_days"],
        }

    write_order()


supplier_order()
