from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.importing import import_all

if TYPE_CHECKING:
    from collections.abc import Iterator


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
