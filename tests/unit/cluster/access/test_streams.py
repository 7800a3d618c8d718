"""What of a stream needs no cluster; the rest is in tests/cluster/test_streams.py."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from windsock.cluster.access.channels import ERROR, Channels
from windsock.cluster.access.streams import ExecTransport

EXIT_CODE = {"details": {"causes": [{"reason": "ExitCode", "message": "7"}]}, "status": "Failure"}


class Ended:
    """The channels of a command that has ended."""

    open = False

    def __init__(self, last: bytes, *, reason: str = "") -> None:
        self.reason = reason
        self._pieces = [last[:5], last[5:]]

    def read(self, channel: int, limit: int) -> bytes:
        del limit
        return self._pieces.pop(0) if channel == ERROR and self._pieces else b""

    def close(self) -> None:
        pass


def diagnosis(last: bytes, *, reason: str = "") -> str:
    channels: Any = Ended(last, reason=reason)
    transport = ExecTransport(cast("Channels", channels), name="the-pod")
    transport.close()
    return transport.diagnosis()


def test_the_exit_code_of_an_agent_is_told() -> None:
    assert "exit code 7" in diagnosis(json.dumps(EXIT_CODE).encode())


def test_why_an_agent_could_not_be_started_is_told() -> None:
    assert diagnosis(b'{"status": "Failure", "message": "no python3"}') == "no python3"


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_a_last_word_that_a_cut_has_shortened_says_nothing(cut: int) -> None:
    told = diagnosis(json.dumps(EXIT_CODE).encode()[:cut], reason="it was reset")
    assert told == "the connection to pod the-pod broke: it was reset"
