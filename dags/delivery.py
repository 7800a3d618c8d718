"""Branching and joining: only one of several ways is taken, and the run goes on after it.

Try it: `invoke dags.trigger delivery --wait --conf '{"kilograms": 40}'`.
"""

from typing import Any

from airflow.sdk import Label, Param, TriggerRule, dag, task

BICYCLE_LIMIT = 10
VAN_LIMIT = 500


@dag(
    schedule=None,
    tags=["example", "branching"],
    params={"kilograms": Param(3, type="integer", minimum=1)},
)
def delivery():
    """Bring an order to the customer, by whatever can carry it."""

    # It returns the id of the task to go on with; the others it would lead to are skipped.
    @task.branch
    def choose_carrier(params: dict[str, Any]) -> str:
        if params["kilograms"] <= BICYCLE_LIMIT:
            return "bicycle"
        return "van" if params["kilograms"] <= VAN_LIMIT else "collect"

    @task
    def bicycle() -> str:
        return "by bicycle, within the hour"

    @task
    def van() -> str:
        return "by van, tomorrow"

    @task
    def collect() -> str:
        return "the customer comes with a lorry"

    # A task runs by default when *all* tasks before it succeeded, so a join after a branch would
    # always be skipped. This rule asks for no failure and at least one success. The ways that were
    # not taken give None.
    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def confirm(*ways: str | None) -> str:
        [way] = [way for way in ways if way is not None]
        return f"Your order comes {way}." if way.startswith("by") else f"Agreed: {way}."

    choice = choose_carrier()
    ways = [bicycle(), van(), collect()]
    labels = [f"up to {BICYCLE_LIMIT} kg", f"up to {VAN_LIMIT} kg", "heavier"]
    for label, way in zip(labels, ways, strict=True):
        choice >> Label(label) >> way
    confirm(*ways)


delivery()
