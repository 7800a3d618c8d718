from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.runtime import check

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no real-time signals")
@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (35, "signal 35")])
def test_an_import_that_any_signal_ends_is_an_error_of_its_file(
    number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_file: str, _folder: str, _memory: int, _answer: Connection) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(check, "check_file", end)  # The real one needs Airflow.
    running = check.Check(tmp_path / "trade.py", tmp_path, 0)
    assert running.answer.poll(60)
    outcome = running.finish(timeout=60)
    assert outcome is not None
    assert outcome["errors"] == {
        "trade.py": f"trade.py: the import ended its process by {name}",
    }
