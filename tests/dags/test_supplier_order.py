"""What stands in `airflow_settings.yaml` is what a DAG sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


@pytest.fixture(name="settings")
def read_settings() -> dict[str, Any]:
    """The file itself, so that the test still holds after you changed a value in it."""
    text = (Path(__file__).parents[2] / "airflow_settings.yaml").read_text(encoding="utf-8")
    settings: dict[str, Any] = yaml.safe_load(text)["airflow"]
    return settings


def test_an_order_is_written_with_the_connection_and_the_variable_of_the_settings(
    airflow: RunningAirflow, settings: dict[str, Any]
) -> None:
    [supplier] = [c for c in settings["connections"] if c["conn_id"] == "supplier"]
    [terms] = [
        json.loads(variable["variable_value"])
        for variable in settings["variables"]
        if variable["variable_name"] == "supplier_terms"
    ]

    # The task's pool is from the same file: without it, the run would never get going.
    run = airflow.run("supplier_order", conf={"crates": 3})

    assert run.state == "success"
    assert run.task("write_order").xcom() == {
        "url": f"https://{supplier['conn_host']}:{supplier['conn_port']}/orders",
        "customer": supplier["conn_login"],
        "warehouse": supplier["conn_extra"]["warehouse"],
        "crates": 3,
        "bottles": 3 * terms["bottles_per_crate"],
        "pay_within_days": terms["pay_within_days"],
    }


def test_the_connections_password_is_told_to_nobody(
    airflow: RunningAirflow, settings: dict[str, Any]
) -> None:
    run = airflow.run("supplier_order")

    assert run.state == "success"
    told = run.task("write_order").logs() + json.dumps(run.task("write_order").xcom())
    for connection in settings["connections"]:
        assert connection["conn_password"] not in told
