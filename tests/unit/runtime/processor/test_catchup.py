from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from windsock.runtime.processor.catchup import VARIABLE, prevent_catchup


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The policies that Airflow gets; its two modules are stand-ins."""
    policies: list[Any] = []

    def register(policy: Any, **_name: str) -> None:
        policies.append(policy)

    manager = SimpleNamespace(register=register)
    settings = SimpleNamespace(get_policy_plugin_manager=lambda: manager)
    monkeypatch.setitem(sys.modules, "airflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "airflow.settings", settings)
    monkeypatch.setitem(sys.modules, "airflow.policies", SimpleNamespace(hookimpl=lambda it: it))
    return policies


def test_no_dag_catches_up(registered: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    prevent_catchup()
    [policy] = registered
    dag = SimpleNamespace(catchup=True)
    policy.dag_policy(dag)
    assert not dag.catchup


@pytest.mark.parametrize("value", ["1", None])
def test_where_schedules_run_a_dag_has_its_own_word(
    registered: list[Any], monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    prevent_catchup()
    assert registered == []
