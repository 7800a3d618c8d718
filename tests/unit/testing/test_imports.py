from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.testing.imports import Graph, Source, python_files, read

if TYPE_CHECKING:
    from pathlib import Path


def graph(folder: Path, files: dict[str, str], *, gone: tuple[str, ...] = ()) -> Graph:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    sources = {name: read(folder / name, name) for name in python_files(folder)}
    return Graph(sources, dags={"child": "child.py", "gone": None}, gone=gone)


@pytest.mark.parametrize(
    ("text", "helper"),
    [
        ("import shop.tax", "shop/tax.py"),
        ("import shop.tax", "shop/__init__.py"),
        ("from shop import tax", "shop/tax.py"),
        ("from shop.tax import RATE", "shop/tax.py"),
        ("from shop.tax import RATE", "shop/__init__.py"),
        ("from shop import *", "shop/__init__.py"),
        ("def f():\n    import tax", "tax.py"),
        ("import tax", "libraries/tax.py"),
        ("from . import tax", "tax.py"),
        ("import importlib\nimportlib.import_module(name)", "shop/tax.py"),
        ("exec(open('x').read())", "shop/tax.py"),
        ("this is no Python", "shop/tax.py"),
    ],
)
def test_a_file_reaches_the_dag_that_imports_it(tmp_path: Path, text: str, helper: str) -> None:
    found = graph(tmp_path, {"sales.py": text, helper: "RATE = 1\n", "stock.py": "import os\n"})
    assert found.reach(helper) == {helper, "sales.py"}


@pytest.mark.parametrize(
    ("text", "helper"),
    [("from . import tax", "a/b/tax.py"), ("from ..c import tax", "a/c/tax.py")],
)
def test_relative_imports_start_at_the_folder_of_the_file(
    tmp_path: Path, text: str, helper: str
) -> None:
    found = graph(tmp_path, {"a/b/sales.py": text, helper: "", "tax.py": ""})
    assert "a/b/sales.py" in found.reach(helper)


def test_a_file_reaches_through_others_and_round_circles(tmp_path: Path) -> None:
    files = {"dag.py": "import a", "a.py": "import b", "b.py": "import c, a", "c.py": ""}
    assert graph(tmp_path, files).reach("c.py") == set(files)


def test_a_deleted_module_reaches_those_that_still_import_it(tmp_path: Path) -> None:
    found = graph(tmp_path, {"sales.py": "from shop import tax"}, gone=("shop/tax.py",))
    assert found.reach("shop/tax.py") == {"shop/tax.py", "sales.py"}


def test_a_dag_that_names_another_one_depends_on_it(tmp_path: Path) -> None:
    files = {"child.py": "", "parent.py": 'TriggerDagRunOperator(trigger_dag_id="child")'}
    assert graph(tmp_path, files).reach("child.py") == {"child.py", "parent.py"}


def test_a_package_that_is_installed_is_nobodys_helper(tmp_path: Path) -> None:
    found = graph(tmp_path, {"sales.py": "import json", "stock.py": "import json"})
    assert found.reach("stock.py") == {"stock.py"}


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(uses=st.dictionaries(NAMES, st.sets(NAMES), min_size=1))
def test_reaching_is_reflexive_and_follows_every_import(uses: dict[str, set[str]]) -> None:
    files = {f"{name}.py": Source(imports=frozenset(used)) for name, used in uses.items()}
    found = Graph(files, dags={}, gone=())
    for name, used in uses.items():
        assert f"{name}.py" in found.reach(f"{name}.py")
        for other in used & uses.keys():
            assert found.reach(f"{name}.py") <= found.reach(f"{other}.py")
