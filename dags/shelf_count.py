"""Dynamic task mapping: as many tasks as there are shelves, known only when the run is on.

Try it: `invoke dags.trigger shelf_count --wait --conf '{"shelves": ["tea", "salt"]}'`.
"""

from collections.abc import Iterable
from typing import Any

from airflow.sdk import Param, TriggerRule, dag, task

STOCK = {"bread": 14, "fruit": 52, "tea": 31}


@dag(
    schedule=None,
    tags=["example", "mapping"],
    params={"shelves": Param(list(STOCK), type="array", items={"type": "string"})},
)
def shelf_count():
    """Count every shelf in a task of its own, then add up."""

    @task
    def list_shelves(params: dict[str, Any]) -> list[str]:
        return params["shelves"]

    # The template names the mapped tasks in the UI: `tea` says more than index 2. At most two
    # count at once: a mapped task can otherwise fill every slot, or your database's connections.
    @task(map_index_template="{{ task.op_kwargs['shelf'] }}", max_active_tis_per_dagrun=2)
    def count(shelf: str, unknown: int) -> dict[str, Any]:
        return {"shelf": shelf, "pieces": STOCK.get(shelf, unknown)}

    # A mapped task over nothing is skipped, and what depends on it too. NONE_FAILED lets the sum of
    # no shelves be 0.
    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def add_up(counts: Iterable[dict[str, Any]]) -> int:
        # `counts` is lazy: each result is fetched when the loop gets there.
        return sum(counted["pieces"] for counted in counts)

    # partial: what is the same for all; expand: what differs.
    add_up(count.partial(unknown=0).expand(shelf=list_shelves()))


shelf_count()
