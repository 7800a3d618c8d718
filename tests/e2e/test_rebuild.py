"""Requirements that change while `invoke up` follows the saves."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.folder import EXAMPLE_DAGS, assert_in_step, dag_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Command, Project

pytestmark = pytest.mark.e2e

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}
BUILD_SECONDS = 150.0


@pytest.fixture
def requirements(environment: Project, tmp_path: Path) -> Iterator[Path]:
    """A requirements file of our own; in the end what runs is as the other tests know it."""
    path = tmp_path / "requirements.txt"
    path.write_text("# nothing yet\n")
    yield path
    environment.close()
    environment.up()


@contextmanager
def following(environment: Project, requirements: Path, rebuild: str) -> Iterator[Command]:
    variable = {"INVOKE_WINDSOCK_REQUIREMENTS": str(requirements)}
    with environment.start("up", "--rebuild", rebuild, **variable) as up:
        up.wait_for("watching for saves")
        yield up
        up.interrupt()
        assert up.end() == 0, up.text()
        up.wait_for("left running")


def pids(environment: Project) -> dict[str, str]:
    """Component → the process that it runs as."""
    status = json.loads(environment.invoke("status", "--json").stdout)
    return {item["name"]: item["detail"].split(",")[0] for item in status["components"]}


def test_never_only_says_what_it_means(environment: Project, requirements: Path) -> None:
    before = pids(environment)
    with following(environment, requirements, "never") as up:
        requirements.write_text("roman==5.1\n")
        up.wait_for(r"requirements\.txt changed: Airflow's venv must be rebuilt, and .* restarted")
        up.wait_for("`invoke up --detach` in another terminal does it")
        requirements.write_text("# nothing yet\n")
        up.wait_for(r"requirements\.txt changed: what runs is built of it already")
    assert pids(environment) == before


def test_auto_brings_a_new_requirement_to_dags_and_tasks_and_keeps_the_session(
    environment: Project, folder: Folder, requirements: Path
) -> None:
    before = pids(environment)
    with following(environment, requirements, "auto") as up:
        requirements.write_text("roman==5.1\n")
        up.wait_for(r"requirements\.txt changed")
        # Saved while it is built: what runs until then cannot import it.
        body = "import roman\nassert roman.toRoman(1999) == 'MCMXCIX'"
        folder.write("numerals.py", dag_source("numerals", {"write": body}, top="import roman"))
        up.wait_for(r"numerals\.py:\d+ .*No module named 'roman'")
        up.wait_for("rebuilt and rolled out", timeout=BUILD_SECONDS)
        up.wait_for(rf"{len(EXAMPLE_DAGS) + 1} DAGs parsed")

        after = pids(environment)
        assert {name for name in before if before[name] != after[name]} == AIRFLOW
        assert_in_step(environment, dags=["numerals"])
        variable = {"INVOKE_WINDSOCK_REQUIREMENTS": str(requirements)}
        run = environment.invoke("dags.trigger", "numerals", "--wait", "--json", **variable)
        assert run.returncode == 0, run.stdout + run.stderr
        assert json.loads(run.stdout)["state"] == "success"
