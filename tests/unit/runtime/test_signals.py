from __future__ import annotations

import signal

import pytest

from windsock.runtime.signals import signal_name


@pytest.mark.parametrize("number", [*range(1, 65), 0, 99])
def test_every_number_has_a_name(number: int) -> None:
    known = {each.value: each.name for each in signal.Signals}
    assert signal_name(number) == known.get(number, f"signal {number}")
