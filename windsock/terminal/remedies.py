"""What to do about an import error whose message alone does not say it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.terminal.places import Places

REQUIREMENTS = "your requirements (docker/requirements.txt): `invoke up` installs it."
"""Where packages are named, unless invoke.yaml says otherwise."""

ABOVE = 3
"""How many folders above the DAG folder are searched for a module."""

PROVIDERS_OF_TWO_WORDS = {"apache", "atlassian", "cncf", "common", "dbt", "microsoft"}
"""`airflow.providers.apache.hive` is one provider, `airflow.providers.http` is another one."""

_SQL = "`from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator`"
_HTTP = "`from airflow.providers.http.operators.http import HttpOperator`"
_EMPTY = "`from airflow.providers.standard.operators.empty import EmptyOperator`"
_TASK_GROUP = "a task group: `from airflow.sdk import TaskGroup`"
_STANDARD = "airflow.providers.standard"

MOVED = {
    "airflow.contrib": "a provider package: its modules are in airflow.providers",
    "airflow.hooks.S3_hook": "airflow.providers.amazon.aws.hooks.s3",
    "airflow.hooks.base_hook": "`from airflow.sdk import BaseHook`",
    "airflow.hooks.dbapi": "`from airflow.providers.common.sql.hooks.sql import DbApiHook`",
    "airflow.hooks.dbapi_hook": "`from airflow.providers.common.sql.hooks.sql import DbApiHook`",
    "airflow.hooks.http_hook": "`from airflow.providers.http.hooks.http import HttpHook`",
    "airflow.hooks.mysql_hook": "`from airflow.providers.mysql.hooks.mysql import MySqlHook`",
    "airflow.hooks.postgres_hook": (
        "`from airflow.providers.postgres.hooks.postgres import PostgresHook`"
    ),
    "airflow.operators.bash_operator": f"{_STANDARD}.operators.bash",
    "airflow.operators.branch_operator": "airflow.sdk.bases.branch",
    "airflow.operators.dagrun_operator": f"{_STANDARD}.operators.trigger_dagrun",
    "airflow.operators.dummy": _EMPTY,
    "airflow.operators.dummy_operator": _EMPTY,
    "airflow.operators.email_operator": "airflow.providers.smtp.operators.smtp",
    "airflow.operators.http_operator": _HTTP,
    "airflow.operators.latest_only_operator": f"{_STANDARD}.operators.latest_only",
    "airflow.operators.mssql_operator": _SQL,
    "airflow.operators.mysql_operator": _SQL,
    "airflow.operators.postgres_operator": _SQL,
    "airflow.operators.python_operator": f"{_STANDARD}.operators.python",
    "airflow.operators.simple_http_operator": _HTTP,
    "airflow.operators.sql": _SQL,
    "airflow.operators.sqlite_operator": _SQL,
    "airflow.operators.subdag": _TASK_GROUP,
    "airflow.operators.subdag_operator": _TASK_GROUP,
    "airflow.sensors.base_sensor_operator": "`from airflow.sdk import BaseSensorOperator`",
    "airflow.sensors.external_task_sensor": f"{_STANDARD}.sensors.external_task",
    "airflow.sensors.http_sensor": "`from airflow.providers.http.sensors.http import HttpSensor`",
    "airflow.sensors.sql": "`from airflow.providers.common.sql.sensors.sql import SqlSensor`",
    "airflow.utils.dates.days_ago": "a fixed start_date: `pendulum.datetime(2026, 1, 1)`",
    "airflow.utils.helpers.chain": "`from airflow.sdk import chain`",
    "airflow.utils.helpers.cross_downstream": "`from airflow.sdk import cross_downstream`",
}
"""Import path of Airflow 1 or 2 that Airflow 3 has not → what takes its place.

A test compares it with the Airflow that windsock installs.
"""

_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_NO_PACKAGE = re.compile(r"ModuleNotFoundError: .*; '([\w.]+)' is not a package")
_NO_NAME = re.compile(r"ImportError: cannot import name '(\w+)' from '([\w.]+)'")
_PROVIDER_IMPORT = re.compile(r"\b(?:from|import)\s+airflow\.providers\.([\w.]+)")
_MEMORY = re.compile(
    r"^[\w.]*MemoryError\b|Cannot allocate memory|can't start new thread|out of memory\?"
    r"|failed to map segment|\bpthread_create failed|\bfork: .*Resource temporarily unavailable"
)


def remedy(headline: str, details: Sequence[str], *, places: Places) -> str:
    """A sentence that says what to do; empty if there is nothing to say.

    Args:
        headline: The exception and the first line of its message.
        details: The lines below it.
        places: Where the author's files are.
    """
    if found := _NO_PACKAGE.match(headline):
        file = found[1].replace(".", "/") + ".py"
        return f"Is a file {file} of yours in the way of the package? Rename it."
    if found := _MISSING.match(headline):
        return _missing(found[1], details, places)
    if (found := _NO_NAME.match(headline)) and (new := MOVED.get(f"{found[2]}.{found[1]}")):
        return f"Airflow 3 has moved it. Use {new}."
    if "AirflowTaskTimeout" in headline or "did not end within" in headline:
        return "Move slow work into a task, or allow more time: `parse.import_timeout`."
    if _MEMORY.search(headline):
        return "The import may have no more memory: `parse.memory_limit_mb` is the limit."
    return ""


def _missing(module: str, details: Sequence[str], places: Places) -> str:
    if module.startswith("airflow.providers."):
        return _provider(module.removeprefix("airflow.providers."), details)
    if new := MOVED.get(module):
        return f"Airflow 3 has moved it. Use {new}."
    if module.startswith("airflow."):
        return "This Airflow has no such module: see the release notes of Airflow 3."
    top = module.partition(".")[0]
    if folder := _beside(top, places):
        return (
            f"It is at {folder}, which Airflow does not see. Is the repository's root to be "
            f"importable? Name the folder in invoke.yaml: `sync: {{folders: {{{folder}: {top}}}}}`."
        )
    return f"Is it a package? Add it to {REQUIREMENTS}"


def _provider(module: str, details: Sequence[str]) -> str:
    """What to do about a module of a provider, named without `airflow.providers.`."""
    # Where the first of two words is missing, only the author's own line has the second one.
    lines = [found[1] for line in details if (found := _PROVIDER_IMPORT.search(line))]
    whole = next((name for name in reversed(lines) if name.startswith(module)), module)
    count = 2 if module.partition(".")[0] in PROVIDERS_OF_TWO_WORDS else 1
    words = whole.split(".")[:count]
    if len(module.split(".")) > count:
        package = f"apache-airflow-providers-{'-'.join(words)}"
        return f"The version of {package} that is installed has no such module."
    return f"Add apache-airflow-providers-{'-'.join(words)} to {REQUIREMENTS}"


def _beside(name: str, places: Places) -> str:
    """A package near the DAG folder, as it is shown; empty if there is none."""
    for parent in list(Path(places.dags).parents)[:ABOVE]:
        path = parent / name
        if path.is_dir() and any(path.glob("*.py")):
            return places.relative(str(path))
    return ""
