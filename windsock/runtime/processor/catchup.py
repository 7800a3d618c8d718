"""Let no DAG catch up on the past: a start date in 2020 would be thousands of runs."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

VARIABLE = "WINDSOCK_RUN_SCHEDULES"


def prevent_catchup() -> None:
    """If the settings say so, parse each DAG as if it said `catchup=False`.

    A cluster policy, as Airflow's documentation describes them: it changes the DAG after its file
    was imported and before it is stored. Must be called before parsers are forked.
    """
    if os.environ.get(VARIABLE) != "0":
        return
    from airflow.policies import hookimpl  # noqa: PLC0415 - only Airflow has it
    from airflow.settings import get_policy_plugin_manager  # noqa: PLC0415 - the same

    policy = SimpleNamespace(dag_policy=hookimpl(_without_catchup))
    get_policy_plugin_manager().register(policy, name=VARIABLE)


def _without_catchup(dag: Any) -> None:
    dag.catchup = False
