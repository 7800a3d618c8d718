"""Which DAG files a changed file can affect, found in their source without running it.

Airflow puts the DAG folder on `sys.path`, and DAG authors add more, so an import is matched by the
end of a path: `import shop.tax` may be any `…/shop/tax.py`. That finds too much rather than too
little, which is the right side to err on.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_DYNAMIC = frozenset({"importlib", "runpy", "imp", "pkgutil", "__import__", "exec", "eval"})
"""Whoever uses one of these names may import anything."""


@dataclass(frozen=True)
class Source:
    """What one Python file says.

    Attributes:
        imports: Dotted names; relative ones are resolved to the folder of the file.
        texts: Every string literal.
        anything: It may import anything: it imports by name, or it cannot be read.
    """

    imports: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    anything: bool = False


@dataclass
class _Names(ast.NodeVisitor):
    package: tuple[str, ...]
    imports: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    anything: bool = False

    def visit_Import(self, node: ast.Import) -> None:
        self._add(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self.package[: len(self.package) - node.level + 1] if node.level else ()
        base = [*above, *(node.module or "").split(".")]
        module = ".".join(part for part in base if part)
        self._add([module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        self.anything = self.anything or node.id in _DYNAMIC

    def _add(self, names: Iterable[str]) -> None:
        for name in names:
            self.imports.add(name)
            self.anything = self.anything or name.split(".")[0] in _DYNAMIC


def read(path: Path, relative: str) -> Source:
    """What the Python file at `path` says; `relative` is its path in the DAG folder."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return Source(anything=True)
    names = _Names(package=PurePosixPath(relative).parent.parts)
    names.visit(tree)
    return Source(frozenset(names.imports), frozenset(names.texts), names.anything)


class Graph:
    """The Python files of a DAG folder, and which of them use which.

    Args:
        sources: Path relative to the DAG folder → what it says.
        dags: DAG id → its file.
        gone: Python files that were deleted: who imports them still says so.
    """

    def __init__(
        self, sources: Mapping[str, Source], *, dags: Mapping[str, str | None], gone: Iterable[str]
    ) -> None:
        self._files = {*sources, *gone}
        self._users: dict[str, set[str]] = {file: set() for file in self._files}
        modules = self._modules()
        for file, source in sources.items():
            used = self._files if source.anything else self._used(source, modules, dags)
            for other in used - {file}:
                self._users[other].add(file)

    def reach(self, file: str) -> set[str]:
        """The file and all that use it, directly or through others."""
        found, pending = {file}, [file]
        while pending:
            for user in self._users.get(pending.pop(), set()) - found:
                found.add(user)
                pending.append(user)
        return found

    def _modules(self) -> dict[str, set[str]]:
        """Each dotted name by which a file may be imported → the files."""
        found: dict[str, set[str]] = {}
        for file in self._files:
            parts = PurePosixPath(file).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            for first in range(len(parts)):
                found.setdefault(".".join(parts[first:]), set()).add(file)
        return found

    def _used(
        self, source: Source, modules: Mapping[str, set[str]], dags: Mapping[str, str | None]
    ) -> set[str]:
        used: set[str] = set()
        for name in source.imports:
            parts = name.split(".")
            # Importing a.b.c runs a/__init__.py and a/b/__init__.py too.
            for end in range(1, len(parts) + 1):
                used |= modules.get(".".join(parts[:end]), set())
        # A DAG that names another one triggers it or waits for it.
        named = {dags[text] for text in source.texts if text in dags}
        return used | {file for file in named if file in self._files}


def python_files(folder: Path) -> list[str]:
    """Every Python file below a folder, relative to it, with slashes."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.parts
    )
