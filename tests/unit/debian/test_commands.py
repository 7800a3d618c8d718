"""Programs that run to their end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cluster.debian.commands import Commands, Stopped, together
from tests.cluster.debian.daemons import wait_until
from windsock.errors import EnvironmentFailure


def is_alive(process_id: str) -> bool:
    status = Path("/proc") / process_id / "status"
    return status.exists() and "State:\tZ" not in status.read_text()


def test_a_program_gives_its_output_and_takes_its_input() -> None:
    assert Commands().run("cat", given="words\n") == "words\n"


def test_a_failure_shows_the_end_of_both_outputs() -> None:
    script = "seq 100; echo reason >&2; exit 3"
    with pytest.raises(EnvironmentFailure, match="exit code 3") as failure:
        Commands().run("sh", "-c", script)
    assert failure.value.hint.splitlines()[-2:] == ["100", "reason"]
    assert "\n1\n" not in failure.value.hint


def test_a_program_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(EnvironmentFailure, match="nowhere cannot be run"):
        Commands().run("nowhere")


def test_the_developer_s_docker_host_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    assert "elsewhere" not in Commands().run("env")


def test_one_failure_ends_the_other_work_and_what_that_started(tmp_path: Path) -> None:
    commands = Commands()
    child = tmp_path / "child"

    def long() -> None:
        with pytest.raises(EnvironmentFailure):
            commands.run(
                "sh", "-c", f"sleep 600 & echo $! >{child}.new; mv {child}.new {child}; wait"
            )
        commands.run("touch", tmp_path / "too-late")

    def short() -> None:
        wait_until(child.exists, "the other work's start")
        commands.run("false")

    with pytest.raises(EnvironmentFailure, match="false"):
        together(commands, long, short)
    assert not (tmp_path / "too-late").exists()
    wait_until(lambda: not is_alive(child.read_text().strip()), "the end of what it started")


def test_nothing_is_started_after_a_stop() -> None:
    commands = Commands()
    commands.stop()
    with pytest.raises(Stopped):
        commands.run("true")
    with pytest.raises(Stopped):  # A question has no answer then, and no wait goes on.
        commands.succeeds("true")


def test_independent_work_goes_on_at_once() -> None:
    both = threading.Barrier(2, timeout=30)
    together(Commands(), both.wait, both.wait)
