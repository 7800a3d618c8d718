from __future__ import annotations

from dev.benchmarks.events import repeat
from windsock.errors import DeadlineExceeded


def test_what_is_never_seen_is_a_failure_and_given_up_after_two() -> None:
    tries = 0

    def event() -> float:
        nonlocal tries
        tries += 1
        if tries > 1:
            raise DeadlineExceeded("not seen")
        return 0.5

    assert repeat(event, times=9, between=lambda: None) == ((0.5,), ("not seen", "not seen"))
    assert tries == 3
