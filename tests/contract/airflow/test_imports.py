from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.project import Project

pytestmark = pytest.mark.e2e


def test_a_task_in_another_virtual_environment_has_the_library_that_no_other_needs(
    environment: Project,
) -> None:
    program = str(Path(__file__).with_name("a_pods_imports.py"))
    done = environment.invoke("shell", "--", "python", program)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {
        "imported": False,
        "source": "@another\ndef load():\n    return 1\n",
        "module": "libcst.matchers",
    }
