"""Why a file yields no DAG, read from its source: what Airflow itself never says."""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTS = re.compile(rb"(?m)^[ \t]*(?:from|import)\b([^#\n(]*(?:\([^)]*\))?)")
WORDS = re.compile(rb"\w+")

NO_DAG = "it makes no DAG, and no DAG file imports it"


def no_dag(source: bytes) -> tuple[int | None, str]:
    """Why a DAG file that imports makes no DAG.

    Returns:
        The line, if there is one, and a sentence.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # An odd escape in the source is not our business.
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, NO_DAG
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {_name(call.func) for call in calls}
    for function in _dag_functions(tree):
        if function.name not in called:
            line = function.lineno
            return (
                line,
                f"the @dag function {function.name} is never called: add `{function.name}()`",
            )
    for call in calls:
        if _name(call.func) == "DAG":
            return call.lineno, (
                "a DAG is made here, and nothing at the top of the module keeps it: "
                "give it a name there, such as `dag = make_dag()`, or use `with DAG(…):`"
            )
    return None, NO_DAG


def imported_words(source: bytes) -> dict[bytes, set[bytes]]:
    """The import statements of a source, also those that run with a task.

    Returns:
        The first name of what is imported, empty for a relative import → all words of such
        statements.
    """
    words: dict[bytes, set[bytes]] = {}
    for line in IMPORTS.findall(source):
        found = WORDS.findall(line)
        relative = line.lstrip().startswith(b".")
        if found:
            words.setdefault(b"" if relative else found[0], set()).update(found)
    return words


def _dag_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                made_by = decorator.func if isinstance(decorator, ast.Call) else decorator
                if _name(made_by) == "dag":
                    yield node


def _name(node: ast.expr) -> str:
    """The last part of a dotted name; empty if it is none."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
