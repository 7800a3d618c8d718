from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

import pytest

from windsock.runtime.processor import companions
from windsock.runtime.processor.companions import Companion, Passenger, choose, parse_in_a_fork
from windsock.runtime.processor.recorder import Recording

if TYPE_CHECKING:
    import socket

linux = pytest.mark.skipif(sys.platform != "linux", reason="a parser has companions on Linux only")


# --- how many -------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(("parsers", "along"), [(1, 19), (2, 10), (3, 7), (0, 19)])
def test_those_that_wait_are_shared_among_the_parsers(parsers: int, along: int) -> None:
    assert choose([0.01] * 19, parsers=parsers) == along


@linux
def test_together_they_are_short_and_not_too_many() -> None:
    assert choose([0.4, 0.4, 0.4, 0.0], parsers=1) == 2
    assert choose([companions.LONGEST + 0.1, 0.0], parsers=1) == 0
    assert choose([0.0] * 1000, parsers=1) == companions.MOST
    assert choose([], parsers=2) == 0


def test_where_nothing_would_end_them_with_their_parser_nobody_goes_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose([0.01] * 19, parsers=2) == 0


# --- in a process of its own ----------------------------------------------------------------------


class Parsed:
    """A result, as pydantic reads one."""

    read: ClassVar[list[bytes]] = []

    @classmethod
    def model_validate_json(cls, text: bytes) -> bytes:
        cls.read.append(text)
        return text


def told(parse: companions.Parse) -> Recording:
    """What a companion tells that `parse` parses."""
    recording = Recording()
    passenger = Passenger(path="a.py", writer=recording.writer)
    parse_in_a_fork(passenger, parse)
    assert recording.read() is False, "its end of the socket is closed"
    recording.reader.close()
    return recording


@linux
def test_what_a_companion_uses_and_makes_of_its_file_comes_back() -> None:
    def parse(path: str, writer: socket.socket) -> bytes:
        writer.sendall(b"u" + path.encode() + b"\0uresult.sql\0")
        return b'{"pid": %d}' % os.getpid()

    recording = told(parse)
    assert recording.paths == {"a.py", "result.sql"}
    assert recording.result is not None
    companion = Companion(parser=None, recording=recording)
    companion.take(recording.result, Parsed)
    assert companion.parsing_result.startswith(b'{"pid": ')
    assert companion.parsing_result != b'{"pid": %d}' % os.getpid()
    assert companion.start_time > 0


@linux
@pytest.mark.parametrize("harm", ["exit", "kill", "raise"])
def test_a_companion_that_dies_leaves_what_it_used_and_no_result(
    harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def parse(path: str, writer: socket.socket) -> bytes:
        writer.sendall(b"u" + path.encode() + b"\0")
        if harm == "exit":
            os._exit(7)
        if harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no")

    recording = told(parse)
    assert (recording.paths, recording.result) == ({"a.py"}, None)
    capfd.readouterr()


@linux
def test_nothing_of_one_companion_is_seen_by_the_next() -> None:
    seen: list[str] = []

    def parse(path: str, _: socket.socket) -> bytes:
        seen.append(path)
        return str(seen).encode()

    for _ in range(2):
        result = told(parse).result
        assert result is not None
        assert result.endswith(b"['a.py']")
    assert seen == []


KILLED = """
import os, sys
from windsock.runtime.processor.companions import Passenger, parse_in_a_fork
from windsock.runtime.processor.recorder import Recording

def hang(path, writer):
    print(os.getpid(), flush=True)
    sys.stdin.read()  # for ever
    return b""

parse_in_a_fork(Passenger("a.py", Recording().writer), hang)
"""


@linux
def test_a_companion_ends_with_its_parser() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parser:
        assert parser.stdout is not None
        companion = int(parser.stdout.readline())
        watched = os.pidfd_open(companion)
        parser.kill()
        # Its end is the end of what it writes to as well.
        assert parser.stdout.read() == ""
        os.close(watched)
