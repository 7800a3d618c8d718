from __future__ import annotations

import pytest

from windsock.runtime.processor.burst import LARGEST_BURST, LONGEST_WAIT, Burst


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def burst(clock: Clock) -> Burst[str]:
    return Burst(clock)


def test_an_empty_burst_is_never_due(burst: Burst[str]) -> None:
    assert not burst.is_due(more_to_come=False)
    assert burst.take() == []


def test_the_last_one_is_not_held_back(burst: Burst[str]) -> None:
    burst.add("a")
    assert burst.is_due(more_to_come=False)


def test_while_more_come_it_waits_for_them_but_not_for_long(
    burst: Burst[str], clock: Clock
) -> None:
    burst.add("a")
    assert not burst.is_due(more_to_come=True)
    clock.now += LONGEST_WAIT / 2
    burst.add("b")
    clock.now += LONGEST_WAIT / 2
    assert burst.is_due(more_to_come=True), "the wait is counted from the first"
    assert burst.take() == ["a", "b"]
    burst.add("c")
    assert not burst.is_due(more_to_come=True), "a new burst waits anew"


def test_a_large_burst_does_not_wait(burst: Burst[str]) -> None:
    for number in range(LARGEST_BURST):
        assert not burst.is_due(more_to_come=True)
        burst.add(str(number))
    assert burst.is_due(more_to_come=True)
