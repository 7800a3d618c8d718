from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.project import Project

pytestmark = pytest.mark.e2e


def test_the_live_loop_keeps_its_promises_on_airflows_manager(environment: Project) -> None:
    program = str(Path(__file__).with_name("loop.py"))
    done = environment.invoke("shell", "--", "python", program)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer
    assert [case for case, held in answer.items() if not held] == []
