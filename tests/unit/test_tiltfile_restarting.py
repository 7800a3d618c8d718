"""The first process of a container that Tilt updates live: the loop in the Tiltfile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.tilt import Tilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Start = Callable[[str], AbstractContextManager[subprocess.Popen[str]]]

JOB = "kind: Job\nmetadata: {name: airflow-migrate}"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the loop with a script in bootstrap.sh's place, in folders of the test's own."""
    tilt = Tilt(context="kind-windsock", local=lambda *_: JOB).run()
    [shell, option, script, name] = tilt.named("docker_build", "windsock-airflow")["entrypoint"]
    code = tmp_path / "code"
    code.mkdir()
    (code / "module.py").touch()
    for there, here in (("/opt/airflow/live", "live"), ("/opt/windsock", "code")):
        script = script.replace(there, str(tmp_path / here))
    script = script.replace("/bootstrap.sh", str(tmp_path / "bootstrap.sh"))

    @contextlib.contextmanager
    def begin(text: str) -> Iterator[subprocess.Popen[str]]:
        bootstrap = tmp_path / "bootstrap.sh"
        bootstrap.write_text(f"#!/bin/sh\n{text}\n")
        bootstrap.chmod(0o755)
        with heeding(signal.SIGHUP):
            process = subprocess.Popen(
                [shell, option, script, name, "scheduler", "two words"],
                stdout=subprocess.PIPE,
                text=True,
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )
        with process:
            try:
                yield process
            finally:
                # In a container they go with its first process.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    return begin


@contextlib.contextmanager
def heeding(number: int) -> Iterator[None]:
    """Start programs that heed a signal, also where `nohup` runs the tests."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_it_runs_from_a_copy_of_the_code_and_ends_as_its_program_ends(
    start: Start, tmp_path: Path
) -> None:
    with start('echo "$1/$2 $PYTHONPATH"; exit 7') as process:
        said, _ = process.communicate(timeout=30)
    assert said == f"scheduler/two words {tmp_path}/live\n"
    assert process.returncode == 7
    assert (tmp_path / "live" / "module.py").exists()


def test_a_hangup_starts_the_program_anew_and_a_term_ends_it(
    start: Start,
) -> None:
    with start("echo started; exec sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        process.stdout.close()
