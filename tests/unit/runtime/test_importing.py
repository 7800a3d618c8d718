from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.importing import import_all, libcst_on_first_use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_needed_must_be_there_and_the_collector_works_again() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_all("no_such_module_anywhere")
    assert gc.isenabled()


def test_what_this_airflow_has_moved_is_passed_over() -> None:
    import_all("json", ["no_such_module_anywhere", "wave"])
    assert "wave" in sys.modules


def test_the_collector_is_off_meanwhile_and_what_came_is_frozen() -> None:
    code = (
        "import gc, sys\n"
        "from windsock.runtime.importing import import_all\n"
        "seen = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        seen.append(gc.isenabled())\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import_all('calendar', ['wave'])\n"
        "print(seen and not any(seen), gc.isenabled(), gc.get_freeze_count() > 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True", "True"]


USER = """
import libcst as cst

class Remover(cst.CSTTransformer):
    def name(self):
        return "of the user, " + super().name()

def use():
    return cst.parse("x").visit(Remover())
"""
LIBCST = """
class CSTTransformer:
    def name(self):
        return "of libcst"

class Tree:
    def visit(self, transformer):
        assert isinstance(transformer, CSTTransformer)
        return transformer.name()

def parse(text):
    return Tree()
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "user_of_libcst.py").write_text(USER)
    (tmp_path / "libcst.py").write_text(LIBCST)
    monkeypatch.syspath_prepend(tmp_path)
    yield "user_of_libcst"
    for name in ("user_of_libcst", "libcst"):
        sys.modules.pop(name, None)


def test_libcst_is_loaded_when_it_is_used_and_not_before(user: str) -> None:
    with libcst_on_first_use():
        import_all(user)
    assert "libcst" not in sys.modules
    assert sys.modules[user].use() == "of the user, of libcst"
    assert "libcst" in sys.modules


def test_libcst_may_be_used_during_the_imports(user: str) -> None:
    with libcst_on_first_use():
        import_all(user)
        assert sys.modules[user].use() == "of the user, of libcst"
    assert sys.modules["libcst"].Tree


def test_libcst_that_is_there_already_stays(user: str) -> None:
    import_all("libcst")
    there = sys.modules["libcst"]
    with libcst_on_first_use():
        import_all(user)
    assert sys.modules["libcst"] is there
    assert sys.modules[user].use() == "of the user, of libcst"
