"""The names of signals."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """What a signal is called: `SIGKILL`; `signal 35` of one that Python has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
