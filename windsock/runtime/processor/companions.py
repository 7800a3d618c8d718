"""Several files for one parser, each still parsed in a process of its own.

Airflow forks its dag-processor for each file. Where a helper module changes that many DAG files
use, those forks stand in line: the dag-processor is large, so a fork takes it 5 ms, and as much
again goes into what each parser sets up for itself before it comes to its file. So a parser gets
*companions* along: files that it parses before its own, each in a fork of itself, one after the
other. Nothing of one file is seen by the next, as before, while the dag-processor goes on with the
results.

Only files that are known to be quick and sound go along; what a companion does not come back with
(it crashed, or its parser was killed) is parsed again alone, where Airflow's own way of telling it
applies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from windsock.runtime.processor.recorder import Recording

Parse = Callable[[str, "socket.socket"], bytes]
"""Parses a file, given its path and what its recording is written to; the result as JSON."""

LONGEST = 1.0
"""Seconds that the companions of one parser may take in all, by what they took the last time."""

MOST = 25
"""How many go along at most."""

PR_SET_PDEATHSIG = 1
"""Source: <linux/prctl.h>."""


class Passenger(NamedTuple):
    """A companion as its parser sees it: the file to parse, and where the recording goes."""

    path: str
    writer: socket.socket


@dataclass(kw_only=True)
class Companion:
    """A companion as the dag-processor sees it. It looks like a parser to Airflow, as far as asked.

    Attributes:
        parser: The process that it goes along with.
        recording: What its own process tells.
        parsing_result: What came of it; None until it is there.
        start_time: When its process began, in monotonic seconds; known with the result.
        had_callbacks: Never.
    """

    parser: Any
    recording: Recording
    parsing_result: Any = None
    start_time: float = 0.0
    had_callbacks: bool = False

    def take(self, told: bytes, kind: Any) -> None:
        """Take in what its process told at its end.

        Args:
            told: As `_parse_and_exit` put it.
            kind: The class of the result, one of pydantic's.
        """
        seconds, _, result = told.partition(b" ")
        self.start_time = time.monotonic() - float(seconds)
        self.parsing_result = kind.model_validate_json(result)


def choose(seconds: Iterable[float], *, parsers: int) -> int:
    """How many of those that wait go along with the next parser.

    Args:
        seconds: What each took the last time, in the order of the queue.
        parsers: How many parsers will share them, the next one among them.
    """
    if sys.platform != "linux":
        return 0  # Nothing would end them with their parser.
    waiting = list(seconds)
    share = -(-len(waiting) // max(1, parsers))
    return sum(1 for _ in _while_short(waiting[: min(share, MOST)]))


def _while_short(seconds: Iterable[float]) -> Iterator[float]:
    total = 0.0
    for each in seconds:
        total += each
        if total > LONGEST:
            return
        yield each


def parse_in_a_fork(passenger: Passenger, parse: Parse) -> None:
    """Parse a companion in a process of its own, and wait for its end."""
    with passenger.writer:
        parser = os.getpid()
        child = os.fork()
        if child == 0:
            _parse_and_exit(passenger, parse, parser=parser)
        os.waitpid(child, 0)


def _parse_and_exit(passenger: Passenger, parse: Parse, *, parser: int) -> NoReturn:
    from windsock.runtime.processor.recorder import RESULT, SEPARATOR  # noqa: PLC0415 - it imports this

    code, started = 1, time.monotonic()
    try:
        _end_with(parser)
        result = parse(passenger.path, passenger.writer)
        seconds = time.monotonic() - started
        passenger.writer.sendall(RESULT + b"%.4f " % seconds + result + SEPARATOR)
        code = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _end_with(parser: int) -> None:
    """End this process with its parser: a file may hang, and its parser be killed for that."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parser:
        os._exit(1)  # It has just ended.
