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
    from pathlib import Path

JOB = "kind: Job\nmetadata: {name: airflow-migrate-1}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts the loop with a script in bootstrap.sh's place, in folders of the test's own."""
    tilt = Tilt(context="kind-windsock", local=lambda *_: JOB).run()
    [shell, option, script, name] = tilt.named("docker_build", "windsock-airflow")["entrypoint"]
    code = tmp_path / "code"
    code.mkdir()
    (code / "module.py").touch()
    for there, here in (("/opt/airflow/live", "live"), ("/opt/windsock", "code")):
        script = script.replace(there, str(tmp_path / here))
    script = script.replace("/bootstrap.sh", str(tmp_path / "bootstrap.sh"))

    def begin(text: str) -> subprocess.Popen[str]:
        bootstrap = tmp_path / "bootstrap.sh"
        bootstrap.write_text(f"#!/bin/sh\n{text}\n")
        bootstrap.chmod(0o755)
        process = subprocess.Popen(
            [shell, option, script, name, "scheduler", "two words"],
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        started.append(process.pid)
        return process

    started: list[int] = []
    yield begin
    for group in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)  # In a container they go with its first process.


def test_it_runs_from_a_copy_of_the_code_and_ends_as_its_program_ends(
    start: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    with start('echo "$1/$2 $PYTHONPATH"; exit 7') as process:
        said, _ = process.communicate(timeout=30)
    assert said == f"scheduler/two words {tmp_path}/live\n"
    assert process.returncode == 7
    assert (tmp_path / "live" / "module.py").exists()


def test_a_hangup_starts_the_program_anew_and_a_term_ends_it(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    with start("echo started; exec sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        process.stdout.close()
