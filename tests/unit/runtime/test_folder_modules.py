from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.folder_modules import FolderModules, use_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = "1" * 32, "2" * 32


class Store:
    """A store whose snapshots a test makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("snapshots", "manifests"):
            (path / name).mkdir()

    def save(self, snapshot: str, **modules: str) -> None:
        folder = self.path / "snapshots" / snapshot
        folder.mkdir()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        entries = {f"{name}.py": ["file", 0o644, 1, text] for name, text in modules.items()}
        manifest = {"version": 1, "entries": entries}
        (self.path / "manifests" / f"{snapshot}.json").write_text(json.dumps(manifest))
        (self.path / "current").unlink(missing_ok=True)
        (self.path / "current").symlink_to(f"snapshots/{snapshot}")

    def dag_module(self, snapshot: str, name: str) -> str:
        """How Airflow names the module of a DAG file."""
        path = str(self.path / "snapshots" / snapshot / f"{name}.py")
        digest = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
        return f"unusual_prefix_{digest}_{name}"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    before = sys.path[:], sys.meta_path[:], set(sys.modules), sys.dont_write_bytecode
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "")
    # The repository has a folder of that name, too.
    sys.path[:] = [place for place in sys.path if not Path(place or ".", "dags").is_dir()]
    yield Store(tmp_path.resolve())
    sys.path[:], sys.meta_path[:] = before[0], before[1]
    sys.dont_write_bytecode = before[3]
    for name in set(sys.modules) - before[2]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_modules_are_as_old_as_the_last_save(store: Store) -> None:
    store.save(ONE, own_triggers="from own_words import WORD", own_words="WORD = 1")
    modules = FolderModules(store.path)
    modules.install()
    assert importlib.import_module("own_triggers").WORD == 1
    assert modules.holds("own_triggers")
    assert not modules.holds("json")
    assert not modules.renew()

    store.save(TWO, own_triggers="from own_words import WORD", own_words="WORD = 2", other="")
    assert modules.renew()
    assert importlib.import_module("own_triggers").WORD == 2
    importlib.import_module("other")


def test_a_save_of_something_else_changes_no_module(store: Store) -> None:
    store.save(ONE, own_triggers="WORD = 1")
    modules = FolderModules(store.path)
    modules.install()
    importlib.import_module("own_triggers")
    store.save(TWO, own_triggers="WORD = 1", other="")
    assert not modules.renew()


def test_a_dag_file_is_found_by_airflows_name_as_it_is_today(store: Store) -> None:
    store.save(ONE, sales="WORD = 1", stock="WORD = 1")
    old = {name: store.dag_module(ONE, name) for name in ("sales", "stock")}
    store.save(TWO, sales="WORD = 2")
    FolderModules(store.path).install()
    assert importlib.import_module(old["sales"]).WORD == 2
    assert importlib.import_module(store.dag_module(TWO, "sales")).WORD == 2
    assert importlib.import_module(old["stock"]).WORD == 1  # It was deleted; its runs go on.
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"unusual_prefix_{'0' * 40}_sales")


def test_code_finds_its_folder_as_it_does_elsewhere(store: Store) -> None:
    store.save(ONE, own_limits="HIGHEST = 1")
    folder = str(store.path / "snapshots" / ONE)
    use_folder("/elsewhere")
    use_folder(folder)
    assert importlib.import_module("dags.own_limits").HIGHEST == 1
    assert os.environ["AIRFLOW__CORE__DAGS_FOLDER"] == folder


def test_a_package_that_is_named_so_comes_first(store: Store) -> None:
    store.save(ONE, dags="HIGHEST = 2")
    sys.path.append(str(store.path / "current"))
    use_folder(str(store.path / "current"))
    assert importlib.import_module("dags").HIGHEST == 2
