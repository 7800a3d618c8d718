"""Retries, and an alert when they are in vain.

Try it: `invoke dags.trigger payment --wait`, then with `--conf '{"card": "stolen"}'`.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import (
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    TaskInstance,
    TriggerRule,
    dag,
    task,
)
from corner_shop import bank
from corner_shop.alerts import AlertRow, alerts_of

# Which failure deserves another attempt? A bank that is away for a moment does; a stolen card does
# not, however many retries are left. Without a policy every failure is retried.
# (Exceptions named here belong in a module that is imported: the policy is stored with the DAG by
# their path, and a DAG file itself has no lasting one.)
ASK_AGAIN_IF_IT_MAY_HELP = ExceptionRetryPolicy(
    rules=[
        RetryRule(ConnectionError, action=RetryAction.RETRY, retry_delay=timedelta(seconds=1)),
        RetryRule(bank.CardDeclinedError, action=RetryAction.FAIL, reason="the answer is no"),
    ]
)


@dag(
    schedule=None,
    tags=["example", "retries"],
    params={"card": Param("valid", enum=["valid", "stolen"])},
)
def payment():
    """Charge a card at a bank that does not always answer."""

    # The callback runs after the last attempt failed, in the same process as the task.
    @task(
        retries=2,
        retry_policy=ASK_AGAIN_IF_IT_MAY_HELP,
        on_failure_callback=AlertRow("{{ params.card }} card: {{ exception }}"),
    )
    def charge(params: dict[str, Any], ti: TaskInstance) -> str:
        return bank.charge(params["card"], cents=1250, attempt=ti.try_number)

    @task
    def ship(receipt: str) -> str:
        return f"shipped, {receipt}"

    # ALL_DONE: it runs after a failure too. A run is judged by its last tasks, so it would call a
    # run with a failed payment a success, if `ship` did not stand beside it.
    @task(trigger_rule=TriggerRule.ALL_DONE)
    def list_alerts(run_id: str) -> list[dict[str, Any]]:
        return alerts_of(run_id)

    charged = charge()
    ship(charged)
    charged >> list_alerts()


payment()
