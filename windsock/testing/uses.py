"""Which DAGs a test uses, found in its source without running it.

A test names them by `@pytest.mark.dag("sales")`, or by calls such as `airflow.run("sales")` in
the test and in its fixtures. If one use of `airflow` cannot be read in this way (it is passed to a
function, or the id is computed), the answer is None: the DAGs are unknown, so the test runs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIXTURE = "airflow"
_ANYTHING = frozenset({"windsock_session", "request"})
"""By one of these fixtures a test can reach Airflow without `airflow`."""
_NAMING = frozenset({"run", "trigger", "wait_for_run", "unpause"})
"""Methods of the fixture whose first argument is a DAG id."""
_HARMLESS = frozenset({"url", "variables", "runs"})
"""Members of the fixture that run no DAG."""


def dags_of(item: pytest.Item) -> frozenset[str] | None:
    """The ids of the DAGs that a test uses, None if that is not known."""
    marked = [name for marker in item.iter_markers("dag") for name in marker.args]
    if marked:
        return frozenset(str(name) for name in marked)
    if not isinstance(item, pytest.Function):
        return None
    callspec = getattr(item, "callspec", None)
    found = _named_by(item.function, callspec.params if callspec else {})
    if found is None:
        return None
    for fixture in _own_fixtures(item):
        named = _named_by(fixture, {})
        if named is None:
            return None
        found |= named
    return frozenset(found) or None


def _own_fixtures(item: pytest.Function) -> list[Callable[..., Any]]:
    """The functions of the fixtures that the test needs, without those of installed plugins.

    pytest offers no public way to ask for them.
    """
    known = item._fixtureinfo.name2fixturedefs  # noqa: SLF001 - see above
    functions = [definition.func for definitions in known.values() for definition in definitions]
    return [function for function in functions if not _is_installed(function)]


def _is_installed(function: Callable[..., Any]) -> bool:
    """Whether a fixture comes from a plugin that does nothing with `airflow`."""
    module = function.__module__ or ""
    if module.startswith(("windsock.", "_pytest.")):
        return True
    return "site-packages" in function.__code__.co_filename and FIXTURE not in _arguments(function)


def _arguments(function: Callable[..., Any]) -> set[str]:
    return {*inspect.signature(function).parameters}


def _named_by(function: Callable[..., Any], parameters: Mapping[str, Any]) -> set[str] | None:
    """The DAG ids that a function gives to its `airflow`; None if one cannot be read."""
    tree = _tree(inspect.unwrap(function))
    if tree is None:
        return None
    arguments = _arguments(function)
    if arguments & _ANYTHING:
        return None
    if FIXTURE not in arguments:
        return set()
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    assigned = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    calls = [
        node for node in nodes if isinstance(node, ast.Call) and _is_method(node.func, _NAMING)
    ]
    harmless = [node for node in nodes if _is_method(node, _HARMLESS)]
    uses = [name for name in names if name.id == FIXTURE]
    found = {_dag_id(call, parameters) for call in calls}
    if len(uses) > len(calls) + len(harmless) or assigned & parameters.keys() or None in found:
        return None
    return {dag_id for dag_id in found if dag_id is not None}


def _dag_id(call: ast.Call, parameters: Mapping[str, Any]) -> str | None:
    """The first argument of a call: a text, or a parameter of the test."""
    keyed = [keyword.value for keyword in call.keywords if keyword.arg == "dag_id"]
    value: Any = None
    match (call.args or keyed)[:1]:
        case [ast.Constant(value=value)]:
            pass
        case [ast.Name(id=name)]:
            value = parameters.get(name)
    return value if isinstance(value, str) else None


@functools.cache
def _tree(function: Callable[..., Any]) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


def _is_method(node: ast.AST, names: frozenset[str]) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == FIXTURE
    )
