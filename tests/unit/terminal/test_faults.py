"""The table of `tests/faults.py`, by the tracebacks that a real Airflow made of its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import faults
from windsock.terminal.places import Places

TRACES: dict[str, str] = json.loads(
    (Path(faults.__file__).parent / "data" / "import_errors.json").read_text(encoding="utf-8")
)
PLACES = Places("/home/me/dags", here="/home/me")


@pytest.mark.parametrize("path", faults.table())
def test_a_fault_is_told_as_the_table_says(path: str) -> None:
    faults.check(path, TRACES[path], places=PLACES)


def test_the_table_has_forty_faults() -> None:
    assert len(faults.table()) >= 40
    assert TRACES.keys() == faults.table().keys()
