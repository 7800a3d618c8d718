"""Which DAGs a test uses, found in its source without running it.

A test names them by `@pytest.mark.dag("sales")`, or by calls such as `airflow.run("sales")` in
itself and in its fixtures. As soon as one use of `airflow` cannot be read that way (it is
handed to a function, the id is computed), the answer is None: nobody knows, so the test runs.
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
"""Who asks for one of these fixtures can reach Airflow unseen."""
_NAMING = frozenset({"run", "trigger", "wait_for_run", "unpause"})
"""Methods of the fixture whose first argument is a DAG id."""
_INNOCENT = frozenset({"url", "variables", "runs"})
"""What a test may use of the fixture without running a DAG."""


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
    """The functions of the fixtures that the test needs, those of installed plugins left out.

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
    reader = _Reader(parameters)
    reader.visit(tree)
    changed = reader.assigned & parameters.keys()
    return None if reader.unreadable or changed else reader.found


@functools.cache
def _tree(function: Callable[..., Any]) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


class _Reader(ast.NodeVisitor):
    """Collects the ids in the calls on `airflow`; any other use of the name is unreadable."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self.found: set[str] = set()
        self.assigned: set[str] = set()
        self.unreadable = False

    def visit_Call(self, node: ast.Call) -> None:
        if _is_method(node.func, _NAMING):
            self._name(node)
            for child in [*node.args, *node.keywords]:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not _is_method(node, _INNOCENT):
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.unreadable = self.unreadable or node.id == FIXTURE
        if not isinstance(node.ctx, ast.Load):
            self.assigned.add(node.id)

    def _name(self, call: ast.Call) -> None:
        keyed = [keyword.value for keyword in call.keywords if keyword.arg == "dag_id"]
        given = (call.args[:1] or keyed)[:1]
        value: Any = None
        if given and isinstance(given[0], ast.Constant):
            value = given[0].value
        elif given and isinstance(given[0], ast.Name):
            value = self._parameters.get(given[0].id)
        if isinstance(value, str):
            self.found.add(value)
        else:
            self.unreadable = True


def _is_method(node: ast.expr, names: frozenset[str]) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == FIXTURE
    )
