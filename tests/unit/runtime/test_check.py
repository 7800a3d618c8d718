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

    monkeypatch.setattr(check, "check_file", end)
    assert errors_of_a_file(tmp_path) == {
        "trade.py": f"trade.py: the import ended its process by {name}",
    }


def test_an_import_that_writes_into_its_answer_is_an_error_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scribble(_file: str, _folder: str, _memory: int, answer: Connection) -> None:
        os.write(answer.fileno(), b"\0\0\0\4junk")

    monkeypatch.setattr(check, "check_file", scribble)
    [(file, told)] = errors_of_a_file(tmp_path).items()
    assert file == "trade.py"
    assert told.startswith("trade.py: its outcome cannot be read: UnpicklingError: ")


def errors_of_a_file(folder: Path) -> dict[str, str]:
    """What a check tells of a file, with `check_file` replaced: the real one needs Airflow."""
    running = check.Check(folder / "trade.py", folder, 0)
    assert running.answer.poll(60)
    outcome = running.finish(timeout=60)
    assert outcome is not None
    errors: dict[str, str] = outcome["errors"]
    return errors
