from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from windsock.runtime.postponing import postponed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = """
class Base:
    name = "of the library"

def parse(text):
    return text.upper()
"""
USER = """
import heavy as library

class Derived(library.Base):
    pass

def use(text):
    parsed = library.parse(text)
    return parsed, Derived().name
"""
OTHER = """
import heavy

class AlsoDerived(heavy.Base):
    pass
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library, the module that may have it later, and one that may not."""
    for name, text in {"heavy": LIBRARY, "its_user": USER, "another": OTHER}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    finders = [*sys.meta_path]
    yield
    assert sys.meta_path == finders
    for name in ("heavy", "its_user", "another"):
        sys.modules.pop(name, None)


def imported(*names: str) -> list[Any]:
    with postponed("heavy", user="its_user", bases=("Base",)):
        return [importlib.import_module(name) for name in names]


def test_a_library_is_imported_when_it_is_used() -> None:
    [user] = imported("its_user")
    use = user.use
    assert "heavy" not in sys.modules
    assert use("text") == ("TEXT", "of the library")
    assert "heavy" in sys.modules
    assert use("again") == ("AGAIN", "of the library")
    assert issubclass(user.Derived, sys.modules["heavy"].Base)


@pytest.mark.parametrize("names", [("its_user", "another"), ("another", "its_user")])
def test_every_other_module_has_the_library_itself(names: tuple[str, str]) -> None:
    found = dict(zip(names, imported(*names), strict=True))
    assert found["another"].AlsoDerived.name == "of the library"
    assert found["its_user"].use("text") == ("TEXT", "of the library")


def test_a_module_that_uses_it_at_once_has_it_at_once(tmp_path: Path) -> None:
    text = USER + "\nLOUD = library.parse('loud')\n"
    (tmp_path / "its_user.py").write_text(text)
    [user] = imported("its_user")
    assert user.LOUD == "LOUD"
    assert user.use("text") == ("TEXT", "of the library")


def test_who_looks_through_all_modules_causes_nothing() -> None:
    [user] = imported("its_user")
    assert not hasattr(user.library, "__file__")
    assert "heavy" not in sys.modules


def test_a_library_that_is_missing_is_missed_when_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").unlink()
    [user] = imported("its_user")
    with pytest.raises(ModuleNotFoundError, match="heavy"):
        user.use("text")
