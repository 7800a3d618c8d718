from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.processor.planted import PlantedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

SOUND = SimpleNamespace(serialized_dags=["small"], import_errors={})
EMPTY = SimpleNamespace(serialized_dags=[], import_errors=None)
BROKEN = SimpleNamespace(serialized_dags=[], import_errors={"planted.py": "Traceback\nKeyError: 1"})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def reasons() -> list[str]:
    return []


def test_one_that_was_killed_leaves_its_file_to_the_next(home: Path) -> None:
    first, second = PlantedFile(lambda _: None), PlantedFile(lambda _: None)
    assert first.path == second.path == home / "planted" / "planted.py"
    assert second.waits


@pytest.fixture
def planted(reasons: list[str]) -> Iterator[PlantedFile]:
    before = signal.getsignal(signal.SIGALRM)
    made = PlantedFile(reasons.append)
    made.watch()
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("result", [SOUND, EMPTY, BROKEN])
def test_a_file_that_comes_through_is_gone_and_not_waited_for(
    planted: PlantedFile, reasons: list[str], result: object
) -> None:
    assert planted.waits
    assert "@dag" in planted.path.read_text()

    planted.take(result, "")

    assert not planted.waits
    assert not planted.path.parent.exists()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert reasons == []


def test_killed_parsers_do_not_count_before_the_time_is_over(
    planted: PlantedFile, reasons: list[str]
) -> None:
    for _ in range(10):
        planted.take(None, "it was killed")
    assert planted.waits
    assert planted.path.exists()
    assert reasons == []


def test_what_comes_after_the_file_has_come_through_changes_nothing(
    planted: PlantedFile, reasons: list[str]
) -> None:
    planted.take(SOUND, "")
    for _ in range(10):
        planted.take(None, "it is gone")
    signal.raise_signal(signal.SIGALRM)
    assert reasons == []


def test_a_file_that_does_not_come_in_time_gives_the_live_processor_up(
    planted: PlantedFile, reasons: list[str]
) -> None:
    planted.take(None, "it was killed")
    signal.raise_signal(signal.SIGALRM)
    [given] = reasons
    assert "not within 120 s: it was killed" in given


def test_the_alarm_of_a_fork_is_not_ours(
    planted: PlantedFile, reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    signal.raise_signal(signal.SIGALRM)
    assert planted.waits
    assert reasons == []


def test_without_a_folder_to_plant_it_in_nothing_is_waited_for(
    reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: str) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    before = signal.getsignal(signal.SIGALRM)
    planted = PlantedFile(reasons.append)
    planted.watch()
    assert not planted.waits
    assert signal.getsignal(signal.SIGALRM) == before
    planted.take(None, "")
    assert Path(os.devnull).exists()
    assert reasons == []
