"""`invoke up` on a cluster that is interrupted on its way, repeated, and changed."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.deployed import KINDS, OURS, PATIENCE, Kubectl, project_on
from tests.e2e.folder import EXAMPLE_DAGS, dag_source, line_of_log
from tests.e2e.machine import assert_nothing_runs
from tests.e2e.project import INTERRUPTED, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

NAMESPACE = "windsock-deploy"
SCHEDULER = f"{OURS},app.kubernetes.io/component=scheduler"


@pytest.fixture(scope="module")
def project(cluster: ClusterAccess) -> Iterator[Project]:
    """A project with requirements of its own; whatever was deployed is removed."""
    folder = Path(tempfile.mkdtemp(prefix="windsock-deploy-")).resolve()
    requirements = folder / "requirements.txt"
    requirements.touch()
    project = project_on(
        cluster, folder, namespace=NAMESPACE, INVOKE_WINDSOCK_REQUIREMENTS=str(requirements)
    )
    try:
        yield project
        project.close()
        down = project.invoke("down", "--volumes")
        assert down.returncode == 0, down.stderr
        left = Kubectl(cluster, NAMESPACE).run("get", KINDS, "-l", OURS, "-o", "name")
        assert left.strip() == ""
        assert_nothing_runs(project)
    finally:
        project.invoke("down", "--volumes")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kubectl(cluster: ClusterAccess) -> Kubectl:
    return Kubectl(cluster, NAMESPACE)


@pytest.mark.parametrize("step", ["cluster", "images", "applied", "rolled out", "Airflow"])
def test_an_interrupt_after_each_step_leaves_nothing_running_here(
    project: Project, step: str
) -> None:
    with project.start("up") as up:
        up.wait_for(f"^✓ {step}", timeout=PATIENCE)
        up.interrupt()
        # After its last step it may watch already when it hears of it, and that ends well.
        codes = {INTERRUPTED, 0} if step == "Airflow" else {INTERRUPTED}
        assert up.end(timeout=PATIENCE) in codes, up.text()
    assert_nothing_runs(project)
    assert project.invoke("status").returncode != 0


@pytest.mark.parametrize("killed", [False, True], ids=["interrupted", "killed"])
def test_one_that_ends_in_the_middle_of_a_rollout_leaves_nothing_running_here(
    project: Project, kubectl: Kubectl, killed: bool
) -> None:
    def starts() -> bool:
        return any(
            pod["status"]["phase"] == "Running"
            and not any(container["ready"] for container in pod["status"]["containerStatuses"])
            for pod in kubectl.items("pods", SCHEDULER)
            if "deletionTimestamp" not in pod["metadata"]
        )

    kubectl.run("delete", "deployment", "airflow-scheduler")
    with project.start("up") as up:
        up.wait_for("^✓ applied", timeout=PATIENCE)
        eventually(starts, "the new scheduler has started and is not ready yet")
        if killed:
            up.kill()
        else:
            up.interrupt()
        assert up.end(timeout=PATIENCE) == (-signal.SIGKILL if killed else INTERRUPTED), up.text()
        assert not any(line.startswith("✓ rolled out") for line in up.lines), up.text()
    assert_nothing_runs(project)


def test_the_next_one_completes_what_was_interrupted_or_killed(project: Project) -> None:
    project.up()
    assert set(project.control.barrier(timeout=60).dags) == EXAMPLE_DAGS
    listed = json.loads(project.invoke("dags.list", "--json").stdout)
    assert {dag["dag_id"] for dag in listed} == EXAMPLE_DAGS
    assert project.invoke("diff").returncode == 0


PACKAGE = "iniconfig==2.1.0"
"""Small, without dependencies, and not in Airflow's lock."""

POSTGRES = f"{OURS},app.kubernetes.io/component=postgres"


def test_a_changed_requirement_reaches_a_running_task(
    project: Project, cluster: ClusterAccess
) -> None:
    database = Kubectl(cluster, NAMESPACE)
    lines = "from importlib.metadata import version\nprint('HAS', version('iniconfig'))"
    (project.dags / "needs.py").write_text(dag_source("needs", {"look": lines}))
    before = project.invoke("dags.trigger", "needs", "--wait", "--timeout=120", "--json")
    assert json.loads(before.stdout)["state"] == "failed"
    [postgres] = database.items("pods", POSTGRES)
    with project.start("up", "--rebuild", "auto") as up:
        up.wait_for("watching for saves")
        (project.home / "requirements.txt").write_text(f"{PACKAGE}\n")
        up.wait_for("the airflow image must be rebuilt, and .*scheduler.* restarted; workers")
        up.wait_for("rebuilt and rolled out", timeout=PATIENCE)
        # The session went on: a save is told in the same terminal.
        said = len(up.lines)
        (project.dags / "saved.py").write_text(dag_source("saved"))
        up.wait_for("saved", after=said)
        up.interrupt()
        assert up.end() == 0, up.text()
    [still] = database.items("pods", POSTGRES)
    assert still["metadata"]["uid"] == postgres["metadata"]["uid"]
    after = project.invoke("dags.trigger", "needs", "--wait", "--timeout=120", "--json")
    assert after.returncode == 0, after.stdout + after.stderr
    run_id = json.loads(after.stdout)["run_id"]
    assert "HAS 2.1.0" in line_of_log(project, "needs", run_id, "look", "HAS")


def test_a_killed_down_is_completed_by_the_next(project: Project, kubectl: Kubectl) -> None:
    deployments = kubectl.names("deployments")
    project.close()
    with project.start("down", "--volumes") as down:
        eventually(lambda: kubectl.names("deployments") != deployments, "it has begun")
        down.kill()
        assert down.end() == -signal.SIGKILL, down.text()
    assert kubectl.names("persistentvolumeclaims"), "it had not come to its end"
    again = project.invoke("down", "--volumes")
    assert again.returncode == 0, again.stderr
    assert NAMESPACE not in kubectl.names("namespaces")
    assert_nothing_runs(project)
