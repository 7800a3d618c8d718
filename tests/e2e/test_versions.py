"""A run finishes on the code it started with, and what it needs for that is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.folder import assert_in_step, dag_source, line_of_log
from tests.e2e.project import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Project
    from windsock.airflow.records import DagRun

pytestmark = pytest.mark.e2e


HELD_SECONDS = 300.0
"""So long a task waits: a test that never opens its gate leaves nothing behind."""


@dataclass(frozen=True)
class Gate:
    """Holds a run between two tasks: the first one has started, and waits until it may go on."""

    folder: Path

    @property
    def body(self) -> str:
        """Of the task that waits."""
        return (
            "import pathlib, time\n"
            f"pathlib.Path({str(self.folder / 'waiting')!r}).touch()\n"
            f"deadline = time.monotonic() + {HELD_SECONDS}\n"
            f"while not pathlib.Path({str(self.folder / 'open')!r}).exists():\n"
            "    assert time.monotonic() < deadline\n"
            "    time.sleep(0.05)"
        )

    def wait(self) -> None:
        """Until the first task runs."""
        eventually((self.folder / "waiting").exists, "the first task runs")

    def open(self) -> None:
        """Let it end."""
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def two_tasks(gate: Gate, version: str, *, body: str = "return VERSION") -> str:
    return dag_source(
        "slowpoke", {"first": gate.body, "second": body}, top=f"VERSION = {version!r}"
    )


def finished(environment: Project, run: DagRun) -> DagRun:
    return environment.airflow.wait(run.dag_id, run.run_id, timeout=PATIENCE)


def said(environment: Project, run: DagRun, task_id: str = "second") -> object:
    return environment.airflow.xcom(run.dag_id, run.run_id, task_id)


def test_a_save_between_two_tasks_does_not_touch_the_run(
    environment: Project, folder: Folder, gate: Gate
) -> None:
    folder.save("slowpoke.py", two_tasks(gate, "one"))
    run = environment.airflow.trigger("slowpoke")
    gate.wait()

    folder.save("slowpoke.py", two_tasks(gate, "two"))
    gate.open()

    assert finished(environment, run).state == "success"
    assert said(environment, run) == "one"
    after = environment.airflow.trigger("slowpoke")
    assert finished(environment, after).state == "success"
    assert said(environment, after) == "two"


def test_a_helper_that_only_a_running_task_imports_is_as_old_as_its_run(
    environment: Project, folder: Folder, gate: Gate
) -> None:
    # Airflow does not see this import when it parses the file.
    body = "from corner_shop.greeting import TEXT\nreturn TEXT"
    folder.write("corner_shop/greeting.py", "TEXT = 'good morning'\n")
    folder.save("slowpoke.py", two_tasks(gate, "one", body=body))
    run = environment.airflow.trigger("slowpoke")
    gate.wait()

    folder.save("corner_shop/greeting.py", "TEXT = 'good night'\n")
    gate.open()

    assert finished(environment, run).state == "success"
    assert said(environment, run) == "good morning"
    after = environment.airflow.trigger("slowpoke")
    assert finished(environment, after).state == "success"
    assert said(environment, after) == "good night"


def test_a_task_that_the_new_version_lacks_still_ends_the_old_run(
    environment: Project, folder: Folder, gate: Gate
) -> None:
    folder.save("slowpoke.py", two_tasks(gate, "one"))
    run = environment.airflow.trigger("slowpoke")
    gate.wait()

    folder.save("slowpoke.py", dag_source("slowpoke", {"other": "return 'new'"}))
    gate.open()

    assert finished(environment, run).state == "success"
    assert said(environment, run) == "one"
    after = environment.airflow.trigger("slowpoke")
    assert finished(environment, after).state == "success"
    instances = environment.airflow.task_instances("slowpoke", after.run_id)
    assert [instance.task_id for instance in instances] == ["other"]


@pytest.mark.parametrize("save", ["broken", "deleted"])
def test_a_run_outlives_the_loss_of_its_file(
    environment: Project, folder: Folder, gate: Gate, save: str
) -> None:
    folder.save("slowpoke.py", two_tasks(gate, "one"))
    run = environment.airflow.trigger("slowpoke")
    gate.wait()

    if save == "broken":
        # A file without the words "airflow" and "dag" would be no DAG file to Airflow.
        folder.write("slowpoke.py", two_tasks(gate, "two") + "def (\n")
    else:
        folder.delete("slowpoke.py")
    folder.settle()
    gate.open()

    if save == "broken":
        assert finished(environment, run).state == "success"
        assert said(environment, run) == "one"
        assert_in_step(environment, dags=["slowpoke"], broken=["slowpoke.py"])
    else:
        # Whoever deletes a DAG does not want its tasks to go on; back in place, the run goes on.
        folder.save("slowpoke.py", two_tasks(gate, "one"))
        assert finished(environment, run).state == "success"


def snapshots(environment: Project) -> set[str]:
    return {path.name for path in (environment.state / "store" / "snapshots").iterdir()}


def age_snapshots(environment: Project) -> None:
    """Make every snapshot look old enough to be collected, as minutes of waiting would."""
    for manifest in (environment.state / "store" / "manifests").iterdir():
        with suppress(FileNotFoundError):  # The collector may be at work.
            old = manifest.stat().st_mtime_ns - 3600 * 10**9
            os.utime(manifest, ns=(old, old))


def test_the_snapshot_of_a_run_is_kept_until_the_run_has_ended(
    environment: Project, folder: Folder, gate: Gate
) -> None:
    folder.save("slowpoke.py", two_tasks(gate, "one"))
    run = environment.airflow.trigger("slowpoke")
    gate.wait()
    mine = environment.airflow.run("slowpoke", run.run_id).bundle_version
    assert mine in snapshots(environment)

    def collect_after_more_saves(title: str) -> None:
        """Save more often than snapshots are kept, and wait for the collector."""
        texts = [two_tasks(gate, f"{title} {number}") for number in range(5)]
        fresh = [folder.save("slowpoke.py", text).snapshot for text in texts]
        age_snapshots(environment)
        eventually(
            lambda: snapshots(environment).isdisjoint(fresh[:2]), "the collector was at work"
        )
        assert snapshots(environment) >= set(fresh[2:])

    collect_after_more_saves("during")
    assert mine in snapshots(environment)

    gate.open()
    assert finished(environment, run).state == "success"
    assert said(environment, run) == "one"
    collect_after_more_saves("after")
    eventually(lambda: mine not in snapshots(environment), "nobody needs it any more")
    assert_in_step(environment, dags=["slowpoke"])


def clear(environment: Project, run: DagRun) -> None:
    """Clear a run's tasks, as the button in the UI does."""
    model = environment.model
    login = {"username": model.user, "password": model.password()}
    with httpx.Client(base_url=model.url, trust_env=False, timeout=PATIENCE) as client:
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        client.post(
            f"/api/v2/dags/{run.dag_id}/clearTaskInstances",
            json={"dag_run_id": run.run_id, "dry_run": False, "only_failed": False},
            headers={"Authorization": f"Bearer {token}"},
        ).raise_for_status()


WRITES = """
import os, pathlib, subprocess
file = pathlib.Path(__file__).parent / 'limits.txt'
if os.geteuid() == 0:
    subprocess.run(['sh', '-c', f'echo 2 > {file}; rm {file}'])
assert file.read_text() == '1'
file.write_text('3')
"""


def test_a_task_cannot_change_its_snapshot_and_runs_todays_code_when_it_is_cleared(
    environment: Project, folder: Folder
) -> None:
    folder.write("limits.txt", "1")
    folder.save("writer.py", dag_source("writer", {"write": WRITES.strip()}))
    run = environment.airflow.trigger("writer")
    assert finished(environment, run).state == "failed"
    line_of_log(environment, "writer", run.run_id, "write", "Task failed with exception")
    log = environment.airflow.log("writer", run.run_id, "write", try_number=1)
    assert any("Write to a folder of your own" in line.text() for line in log)
    assert (environment.state / "store" / "current" / "limits.txt").read_text() == "1"

    folder.save("writer.py", dag_source("writer", {"write": "return 'mended'"}))
    clear(environment, run)
    assert finished(environment, run).state == "success"
    assert said(environment, run, "write") == "mended"


SHOWS = """
import os
from airflow.configuration import conf
from dags.corner_shop import limits
assert os.path.exists(conf.get("core", "dags_folder") + "/shows.py")
"""


def test_code_finds_its_folder_as_on_other_platforms_and_a_test_leaves_versions_alone(
    environment: Project, folder: Folder
) -> None:
    folder.write("corner_shop/limits.py", "HIGHEST = 'seven'")
    task = "from dags.corner_shop import limits\nprint('ran')\nreturn limits.HIGHEST"
    settled = folder.save("shows.py", dag_source("shows", {"show": task}, top=SHOWS))
    assert settled.errors == {}
    run = environment.airflow.trigger("shows")
    assert finished(environment, run).state == "success"
    assert said(environment, run, "show") == "seven"

    done = environment.invoke("shell", "--", "airflow", "dags", "test", "shows")
    assert done.returncode == 0, done.stderr
    assert f"{done.stdout}{done.stderr}".count("ran\n") == 1
    assert {run.state for run in environment.airflow.runs("shows")} == {"success"}
    after = environment.airflow.trigger("shows")
    assert after.bundle_version == settled.snapshot
    assert finished(environment, after).state == "success"
