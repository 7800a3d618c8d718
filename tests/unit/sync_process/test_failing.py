from __future__ import annotations

from datetime import UTC, datetime

import pytest

from windsock.events import ComponentFailing, ComponentRecovered, Event
from windsock.sync_process.failing import FailingComponents


class Supervised:
    """A supervisor's log, and the time, as `FailingComponents` sees them."""

    def __init__(self) -> None:
        self.now = 1_900_000_000.0
        self.told: list[Event] = []
        self._lines: list[str] = []
        self._watch = FailingComponents(
            self._news,
            last_words=lambda name: f"{name}: no such table",
            publish=self.told.append,
            clock=lambda: self.now,
        )

    def _news(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines

    def after(self, seconds: float, *lines: str) -> list[Event]:
        """What is told after some time, and lines that were written just then."""
        self.now += seconds
        local = datetime.fromtimestamp(self.now, UTC).astimezone()
        self._lines = [f"{local:%Y-%m-%d %H:%M:%S},000 INFO {line}" for line in lines]
        self.told.clear()
        self._watch.look()
        return list(self.told)


ENDED = "exited: dag-processor (exit status 1; not expected)"
STARTED = "spawned: 'dag-processor' with pid 7"
RUNS = "success: dag-processor entered RUNNING state, process has stayed up for > than 10 seconds"
STOPPED = "stopped: dag-processor (exit status 0)"
GAVE_UP = "gave up: dag-processor entered FATAL state, too many start retries too quickly"
RECOVERED = ComponentRecovered(component="dag-processor")


def test_the_fourth_end_in_a_row_is_told_once_with_the_last_words() -> None:
    supervised = Supervised()
    for _ in range(3):
        assert supervised.after(12, STARTED, RUNS, ENDED) == []
    [told] = supervised.after(12, STARTED, RUNS, ENDED)
    assert isinstance(told, ComponentFailing)
    assert told.message == "dag-processor ends again and again: exit status 1"
    assert "dag-processor: no such table" in told.hint
    assert "invoke logs dag-processor" in told.hint
    assert supervised.after(12, STARTED, RUNS, ENDED) == []


def test_a_component_that_lives_for_a_minute_has_recovered_and_may_fail_again() -> None:
    supervised = Supervised()
    supervised.after(0, *[ENDED] * 4)
    assert supervised.after(30, STARTED, RUNS) == []
    assert supervised.after(31) == [RECOVERED]
    assert supervised.after(1) == []
    [told] = supervised.after(5, *[ENDED] * 4)
    assert isinstance(told, ComponentFailing)


@pytest.mark.parametrize("restart", [[STOPPED, STARTED], [GAVE_UP, STARTED]])
def test_a_component_that_somebody_restarts_has_recovered_when_it_runs(restart: list[str]) -> None:
    supervised = Supervised()
    supervised.after(0, *[ENDED] * 4)
    assert supervised.after(1, *restart) == []
    assert supervised.after(10, RUNS) == [RECOVERED]


def test_a_component_that_is_not_started_again_is_told_and_stays() -> None:
    supervised = Supervised()
    [told] = supervised.after(0, ENDED, GAVE_UP)
    assert isinstance(told, ComponentFailing)
    assert "not started again" in told.message
    assert supervised.after(3600) == []


@pytest.mark.parametrize("seconds", [600, 86_400])
def test_an_end_now_and_then_is_no_loop(seconds: float) -> None:
    supervised = Supervised()
    assert not any(supervised.after(seconds, STARTED, RUNS, ENDED) for _ in range(6))


@pytest.mark.parametrize("seconds", [45, 90, 300])
def test_a_slow_loop_is_told_once_and_is_over_when_it_lives_twice_as_long(seconds: float) -> None:
    supervised = Supervised()
    told = []
    for _ in range(8):
        told += supervised.after(10, STARTED, RUNS)
        told += supervised.after(seconds, ENDED)
    [failing] = told
    assert isinstance(failing, ComponentFailing)
    supervised.after(10, STARTED, RUNS)
    assert supervised.after(seconds) == []
    assert supervised.after(seconds + 10) == [RECOVERED]


def test_ends_in_a_row_are_counted_anew_after_a_long_life() -> None:
    supervised = Supervised()
    ends = [600, 90, 90, 600, 90, 90, 600]
    assert not any(supervised.after(seconds, STARTED, RUNS, ENDED) for seconds in ends)


def test_ends_before_a_restart_by_somebody_do_not_count() -> None:
    supervised = Supervised()
    for _ in range(3):
        for lines in ([STARTED, RUNS, ENDED], [STARTED, RUNS, ENDED], [STARTED, STOPPED]):
            assert supervised.after(45, *lines) == []


def test_a_loop_that_has_become_slower_is_told_again_at_its_next_end() -> None:
    supervised = Supervised()
    supervised.after(0, *[ENDED] * 4)
    assert supervised.after(70, STARTED, RUNS) == [RECOVERED]
    [told] = supervised.after(1, ENDED)
    assert isinstance(told, ComponentFailing)
    supervised.after(5, STARTED, RUNS)
    assert supervised.after(70) == []


def test_restarts_on_purpose_are_no_loop() -> None:
    supervised = Supervised()
    assert not any(supervised.after(1, STOPPED, STARTED, RUNS) for _ in range(6))


def test_a_loop_of_long_ago_is_not_told() -> None:
    supervised = Supervised()
    lines = [f"2020-01-01 00:00:0{number},000 WARN {ENDED}" for number in range(5)]
    supervised._lines = lines
    supervised._watch.look()
    assert supervised.told == []
