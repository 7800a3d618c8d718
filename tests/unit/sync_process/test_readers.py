from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.events import Event, Parsing, ProcessorState, RequestRefused, StockProcessor
from windsock.sync_process.readers import SettingsReaders

if TYPE_CHECKING:
    from collections.abc import Iterable

CURRENCY = "variables/currency"
GREETING = ProcessorState(snapshot=None, awaited=(), files=())


class Rig:
    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.readers = SettingsReaders(self._tell)

    def _tell(self, names: Iterable[str]) -> None:
        self.told.append(sorted(names))

    def answer(self, *names: str) -> None:
        self.readers.take(Parsing(snapshot="s", files=(), settings=names))

    @property
    def waits(self) -> bool:
        return not self.readers.wait(timeout=0)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_change_is_waited_for_until_it_is_answered(rig: Rig) -> None:
    assert not rig.waits
    rig.readers.change([CURRENCY])
    assert rig.told == [[CURRENCY]]
    rig.readers.take(Parsing(snapshot="s", files=("a.py",)))  # of a save
    assert rig.waits
    rig.answer(CURRENCY)
    assert not rig.waits


def test_a_second_change_of_the_same_name_has_an_answer_of_its_own(rig: Rig) -> None:
    rig.readers.change([CURRENCY])
    rig.readers.change([CURRENCY])
    rig.answer(CURRENCY)
    assert rig.waits
    rig.answer(CURRENCY)
    assert not rig.waits


def test_a_dag_processor_that_was_away_is_told_once_more(rig: Rig) -> None:
    rig.readers.change([CURRENCY])
    rig.readers.change([CURRENCY])
    rig.readers.take(GREETING)
    assert rig.told == [[CURRENCY]] * 3
    rig.answer(CURRENCY)
    assert not rig.waits
    rig.readers.take(GREETING)
    assert rig.told == [[CURRENCY]] * 3


@pytest.mark.parametrize(
    "event",
    [StockProcessor(missing=()), RequestRefused(reason="there is no request 'settings'")],
)
def test_a_dag_processor_that_knows_no_readers_is_not_waited_for(rig: Rig, event: Event) -> None:
    rig.readers.change([CURRENCY])
    rig.readers.take(event)
    assert not rig.waits


def test_another_request_that_is_refused_is_no_answer(rig: Rig) -> None:
    rig.readers.change([CURRENCY])
    rig.readers.take(RequestRefused(reason="OperationalError('the database is away')"))
    assert rig.waits
