from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.project import Project

pytestmark = pytest.mark.e2e


def test_windsock_lists_what_airflow_lists_and_goes_on_where_airflow_ends(
    environment: Project,
) -> None:
    program = str(Path(__file__).with_name("listings.py"))
    done = environment.invoke("shell", "--", "python", program)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["alike"] > 100
    assert answer["refused"] > 50
    assert answer["different"] == answer["silent"] == answer["missing"] == []
