"""Tell somebody that a task failed."""

from typing import Any

from airflow.sdk import BaseNotifier

from corner_shop import warehouse

CREATE_ALERTS = """
    CREATE TABLE IF NOT EXISTS alerts (
        run_id text, task_id text, attempt integer, message text,
        PRIMARY KEY (run_id, task_id, attempt)
    )
"""


class AlertRow(BaseNotifier):
    """Writes one row to the warehouse's table `alerts`.

    A notifier is a callback with settings: Airflow calls it with the task's context, and renders
    the attributes named in `template_fields` before. Providers bring them for mail, chat and
    pagers; they are used just like this one.

    Args:
        message: What the row says, a Jinja template.
    """

    template_fields = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Any) -> None:
        """Write the row. Written twice, it is still one row."""
        task_instance = context["ti"]
        warehouse.write(
            CREATE_ALERTS,
            """
            INSERT INTO alerts VALUES (%(run_id)s, %(task_id)s, %(attempt)s, %(message)s)
            ON CONFLICT DO NOTHING
            """,
            run_id=task_instance.run_id,
            task_id=task_instance.task_id,
            attempt=task_instance.try_number,
            message=self.message,
        )


def alerts_of(run_id: str) -> list[dict[str, Any]]:
    """The alerts that one DAG run raised, in order."""
    warehouse.write(CREATE_ALERTS)
    rows = warehouse.read(
        "SELECT task_id, attempt, message FROM alerts WHERE run_id = %(run_id)s ORDER BY 1, 2",
        run_id=run_id,
    )
    return [
        {"task": task, "attempt": attempt, "message": message} for task, attempt, message in rows
    ]
