from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.processor.planted import ATTEMPTS, PlantedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

SOUND = SimpleNamespace(serialized_dags=["small"], import_errors={})
EMPTY = SimpleNamespace(serialized_dags=[], import_errors=None)
BROKEN = SimpleNamespace(serialized_dags=[], import_errors={"planted.py": "Traceback\nKeyError: 1"})


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def planted(reasons: list[str]) -> Iterator[PlantedFile]:
    before = signal.getsignal(signal.SIGALRM)
    made = PlantedFile(reasons.append)
    made.watch()
    yield made
    made.take(SOUND, "")
    signal.signal(signal.SIGALRM, before)


def test_a_file_that_comes_through_is_gone_and_not_waited_for(
    planted: PlantedFile, reasons: list[str]
) -> None:
    assert planted.waits
    assert "@dag" in planted.path.read_text()

    planted.take(SOUND, "")

    assert not planted.waits
    assert not planted.path.parent.exists()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert reasons == []


@pytest.mark.parametrize(
    ("result", "reason"),
    [(BROKEN, "KeyError: 1"), (EMPTY, "it was killed"), (None, "it was killed")],
)
def test_a_file_that_fails_too_often_gives_the_live_processor_up(
    planted: PlantedFile, reasons: list[str], result: object, reason: str
) -> None:
    for _ in range(ATTEMPTS - 1):
        planted.take(result, "it was killed")
    assert reasons == []
    planted.take(result, "it was killed")
    [given] = reasons
    assert reason in given


def test_a_file_that_does_not_come_in_time_gives_the_live_processor_up(
    planted: PlantedFile, reasons: list[str]
) -> None:
    planted.take(None, "it was killed")
    signal.raise_signal(signal.SIGALRM)
    [given] = reasons
    assert "not within 120 s: it was killed" in given
