"""Further folders: what DAGs import, and Airflow's plugins."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SETTINGS
from tests.e2e.events import Events
from tests.e2e.folder import Folder, dag_source, line_of_log, save_calendar, schedule_of
from tests.e2e.machine import assert_nothing_runs, free_port
from tests.e2e.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(environment: Project) -> Iterator[Project]:
    """Another environment, with the further folders `include` and `plugins`."""
    home = Path(tempfile.mkdtemp(prefix="windsock-e2e-folders-")).resolve()
    for name in ("shared", "plugins"):
        (home / name).mkdir()
    folders = {str(home / "shared"): "include", str(home / "plugins"): "plugins"}
    config = home / "folders.yaml"
    config.write_text(json.dumps({"windsock": {"sync": {"folders": folders}}}))
    variables = {
        **SETTINGS,
        "INVOKE_RUNTIME_CONFIG": str(config),
        "INVOKE_WINDSOCK_LOCAL_PORT": str(free_port()),
    }
    project = Project(home=home, variables=variables)
    Folder(project).restore()
    (home / "shared" / "prices.py").write_text("TASKS = ['buy']\n")
    save_calendar(home / "plugins", hour=0)
    project.state.mkdir(mode=0o700)
    (project.state / "venv").symlink_to(environment.state / "venv")
    try:
        with project.brought_up():
            yield project
        assert_nothing_runs(project)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_dag_follows_a_save_of_what_it_imports_from_another_folder(project: Project) -> None:
    source = dag_source(
        "trade",
        {"only": "from include import prices\nprint('prices:', prices.TASKS)"},
        top="from include.prices import TASKS",
        task_id="TASKS[0]",
    )
    Folder(project).save("trade.py", source)
    assert project.airflow.tasks("trade") == ["buy"]

    (project.home / "shared" / "prices.py").write_text("TASKS = ['sell']\n")
    settled = project.control.barrier(timeout=60)

    assert project.airflow.tasks("trade") == ["sell"]
    assert "include/prices.py" not in settled.errors
    run = project.invoke("dags.trigger", "trade", "--wait", "--timeout=60", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    run_id = json.loads(run.stdout)["run_id"]
    assert line_of_log(project, "trade", run_id, "sell", "prices:") == "prices: ['sell']"


def test_what_lies_in_another_folder_is_no_dag_file(project: Project) -> None:
    (project.home / "shared" / "hidden.py").write_text(dag_source("hidden"))
    project.control.barrier(timeout=60)
    assert "hidden" not in {dag.dag_id for dag in project.airflow.dags()}


def test_an_error_in_another_folder_names_its_file(project: Project) -> None:
    Folder(project).save("broken.py", dag_source("broken", top="import include.half"))
    (project.home / "shared" / "half.py").write_text("1 / 0\n")
    # More than a pipe holds, to both streams: nobody waits for it.
    noise = "import sys\nfor out in (sys.stdout, sys.stderr):\n    out.write('noise\\n' * 100_000)"
    Folder(project).save("noisy.py", dag_source("noisy", top=noise))
    settled = project.control.barrier(timeout=60)
    assert "include/half.py" in settled.errors["broken.py"]
    for command in ("dags.errors", "dags.check"):
        told = project.invoke(command)
        assert told.returncode == 1
        assert "/shared/half.py:1  ZeroDivisionError: division by zero" in told.stdout
    (project.dags / "broken.py").unlink()
    project.control.barrier(timeout=60)
    checked = project.invoke("dags.check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    Folder(project).delete("noisy.py")


def test_a_link_into_another_folder_leads_there_and_its_saves_are_followed(
    project: Project,
) -> None:
    (project.home / "shared" / "team.py").write_text(dag_source("team", ["buy"]))
    (project.dags / "linked.py").symlink_to(project.home / "shared" / "team.py")
    project.control.barrier(timeout=60)
    assert project.airflow.tasks("team") == ["buy"]
    (project.home / "shared" / "team.py").write_text(dag_source("team", ["sell"]))
    assert not project.control.barrier(timeout=60).errors
    assert project.airflow.tasks("team") == ["sell"]
    Folder(project).delete("linked.py")


def test_another_folder_that_is_away_holds_back_its_own_files_alone(project: Project) -> None:
    Folder(project).save("away.py", dag_source("away", ["one"], top="import include.prices"))
    away = project.home / "away"
    with Events(project) as events:
        (project.home / "shared").rename(away)
        halted = events.wait_for(lambda event: event["type"] == "halted", "the folder is missed")
        assert halted["folders"] == ["include"]
        settled = Folder(project).save(
            "away.py", dag_source("away", ["two"], top="import include.prices")
        )
        assert not settled.errors
        assert project.airflow.tasks("away") == ["two"]
        away.rename(project.home / "shared")
        events.wait_for(lambda event: event["type"] == "resumed", "the folder is back")
    Folder(project).delete("away.py")


def test_a_plugin_is_there_from_the_start_and_a_save_of_it_restarts_airflow(
    project: Project,
) -> None:
    source = dag_source("weekly", ["buy"], top="from calendar_plugin import Weekdays")
    Folder(project).save("weekly.py", source.replace("schedule=None", "schedule=Weekdays()"))
    assert not project.control.status()["errors"]
    assert schedule_of(project, "weekly") == "0 0 * * 1-5"

    save_calendar(project.home / "plugins", hour=6)
    project.control.barrier(timeout=120)

    assert not project.control.status()["errors"]
    assert schedule_of(project, "weekly") == "0 6 * * 1-5"
    status = project.invoke("status")
    assert status.returncode == 0, status.stdout + status.stderr
    run = project.invoke("dags.trigger", "weekly", "--wait", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    run_id = json.loads(run.stdout)["run_id"]
    assert line_of_log(project, "weekly", run_id, "buy", "listened") == "listened at 6: buy"
    project.close()
    again = project.up()
    assert "already up" in again.stderr
