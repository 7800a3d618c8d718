from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from windsock.runtime.processor.parser import MEBIBYTE, run_in_a_fork
from windsock.runtime.processor.recorder import Notes, Recording

ROOT = Path(__file__).parents[4]
linux = pytest.mark.skipif(sys.platform != "linux", reason="files share a parser on Linux only")


# --- a file in a fork of the parser ---------------------------------------------------------------


@linux
def test_what_a_file_uses_and_its_result_come_back_from_the_fork() -> None:
    recording = Recording()

    def parse() -> None:
        recording.note("result.sql")
        recording.finish(0.5, b"%d" % os.getpid())

    run_in_a_fork(parse)
    notes = recording.read()
    assert (notes.paths, notes.seconds) == ({"result.sql"}, 0.5)
    assert notes.result not in (None, b"%d" % os.getpid())


@linux
@pytest.mark.parametrize("harm", ["exit", "kill", "raise"])
def test_a_file_that_ends_its_process_leaves_what_it_used_and_no_result(
    harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recording = Recording()

    def parse() -> None:
        recording.note("a.py")
        if harm == "exit":
            os._exit(7)
        if harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no")

    run_in_a_fork(parse)
    assert recording.read() == Notes(paths={"a.py"})
    capfd.readouterr()


@linux
def test_nothing_of_one_file_is_seen_by_the_next() -> None:
    seen: list[str] = []
    for _ in range(2):
        recording = Recording()

        def parse(recording: Recording = recording) -> None:
            seen.append("a.py")
            recording.finish(0.0, b"%d" % len(seen))

        run_in_a_fork(parse)
        assert recording.read().result == b"1"
    assert seen == []


KILLED = """
import os, sys
from windsock.runtime.processor.parser import run_in_a_fork

def hang():
    print(os.getpid(), flush=True)
    sys.stdin.read()  # for ever

run_in_a_fork(hang)
"""


@linux
def test_a_fork_ends_with_its_parser() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parser:
        assert parser.stdout is not None
        assert int(parser.stdout.readline())
        parser.kill()
        # The end of its output is the end of the fork as well.
        assert parser.stdout.read() == ""


# --- memory ---------------------------------------------------------------------------------------


def limited(mebibytes: int, *, hard: int | None = None) -> tuple[int, int]:
    """The soft and hard limit of a process after `limit_memory`."""
    script = (
        "import json, resource, sys\n"
        "from windsock.runtime.processor.parser import limit_memory\n"
        "hard = json.loads(sys.argv[2])\n"
        "if hard: resource.setrlimit(resource.RLIMIT_AS, (hard - 1, hard))\n"
        "limit_memory(int(sys.argv[1]))\n"
        "print(json.dumps(resource.getrlimit(resource.RLIMIT_AS)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(mebibytes), json.dumps(hard)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    soft, found = json.loads(told.stdout)
    return int(soft), int(found)


def test_memory_is_limited_only_where_it_is_wanted() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert limited(0) == before
    assert limited(2048)[0] == 2048 * MEBIBYTE


def test_no_more_is_asked_for_than_the_system_allows() -> None:
    hard = 3000 * MEBIBYTE
    assert limited(4096, hard=hard) == (hard, hard)
