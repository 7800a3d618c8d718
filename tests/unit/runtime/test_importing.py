from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from windsock.runtime.importing import import_all, quick_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


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


READ = """
import yaml
with open({path!r}) as file:
    first = yaml.safe_load(file)
with open({path!r}) as file:
    second = yaml.load(file, yaml.CSafeLoader)
first["list"].append("changed")
with open({path!r}) as file:
    own = yaml.load(file, type("Own", (yaml.SafeLoader,), {{}}))
"""


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_a_file_is_parsed_once_and_each_reader_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("list: [1, two]\nday: 2026-01-01\n")
    (tmp_path / "reads_yaml.py").write_text(READ.format(path=str(path)))
    monkeypatch.syspath_prepend(tmp_path)
    loaders: list[str] = []
    load = yaml.load

    def noting(stream: TextIO, chosen: type) -> object:
        loaders.append(chosen.__name__)
        return load(stream, chosen)

    monkeypatch.setattr(yaml, "load", noting)
    before = yaml.load, yaml.safe_load
    import_all("reads_yaml")
    assert (yaml.load, yaml.safe_load) == before
    module = sys.modules.pop("reads_yaml")
    plain = load(path.read_text(), yaml.SafeLoader)
    assert module.second == module.own == plain
    assert module.first == {**plain, "list": [1, "two", "changed"]}
    assert loaders == ["CSafeLoader", "Own"], "a loader that somebody chose is the one that loads"


def test_a_yaml_without_the_quick_loader_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    before = yaml.load
    with quick_yaml():
        assert yaml.load is before
