"""`okteto pipeline deploy` without Okteto: its installer is played on the cluster under test."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import installer
from tests.cluster.stand_ins import kubectl_image
from tests.e2e.folder import EXAMPLE_DAGS, Folder, dag_source
from tests.e2e.machine import assert_nothing_runs, free_port
from tests.e2e.project import Project
from windsock.cluster.client import Cluster
from windsock.cluster.failures import Refusal
from windsock.cluster.inventory import list_all, served_order
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.cluster.installer import Installer

PATIENCE = 1200.0
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

NAMESPACE = "okteto-played"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="windsock-okteto-")).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def deployed(cluster: ClusterAccess, home: Path) -> Iterator[Installer]:
    """A namespace in which the commands of `deploy` have run."""
    if cluster.images != "docker":
        pytest.skip("the images are built for a cluster that runs what docker has")
    with (
        kubectl_image(home) as kubectl,
        installer.built({"KUBECTL_IMAGE": kubectl}) as images,
        installer.prepared(cluster, namespace=NAMESPACE, images=images, folder=home) as okteto,
    ):
        said = okteto.play("deploy", installer.manifest()["deploy"])
        assert f"{len(EXAMPLE_DAGS)} DAGs parsed" in said
        yield okteto


@pytest.fixture
def namespace(deployed: Installer) -> Cluster:
    """The namespace, with the rights of its user."""
    return Cluster.connect(
        context=installer.CONTEXT, namespace=NAMESPACE, kubeconfig=str(deployed.kubeconfig)
    )


def ours(cluster: Cluster) -> list[str]:
    """Everything in the namespace that windsock applied."""
    pairs = [*served_order(cluster), ("v1", "Pod")]
    return [
        f"{item['kind']} {item['metadata']['name']}"
        for items in list_all(cluster, pairs)
        for item in items
    ]


def test_the_account_has_rights_in_its_namespace_only(namespace: Cluster) -> None:
    with pytest.raises(Refusal):
        namespace.get("v1", "Namespace", "default")
    with pytest.raises(Refusal):
        namespace.items("v1", "Node")


def test_what_runs_is_what_okteto_built(deployed: Installer, namespace: Cluster) -> None:
    pods = namespace.items("v1", "Pod")
    images = {item["image"] for pod in pods for item in pod["spec"]["containers"]}
    assert images == {deployed.images["airflow"], deployed.images["postgres"]}


def test_the_endpoint_is_private_and_the_links_lead_there(namespace: Cluster) -> None:
    service = namespace.get("v1", "Service", "airflow-api-server")
    assert service is not None
    assert service["metadata"]["annotations"]["dev.okteto.com/auto-ingress"] == "private"
    settings = namespace.get("v1", "ConfigMap", "airflow-settings")
    assert settings is not None
    assert settings["data"]["AIRFLOW__API__BASE_URL"] == (
        f"https://airflow-api-server-{NAMESPACE}.{installer.DOMAIN}"
    )


def test_the_dag_tests_pass_in_the_namespace_and_leave_a_report(
    deployed: Installer, namespace: Cluster, tmp_path: Path
) -> None:
    before = _versions(namespace)
    deployed.play("test.dags", installer.manifest()["test"]["dags"], keep=tmp_path)
    suite = ET.parse(tmp_path / "junit.xml").getroot().find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert int(suite.attrib["tests"]) >= len(EXAMPLE_DAGS)
    assert suite.attrib["failures"] == suite.attrib["errors"] == "0"
    assert _versions(namespace) == before, "the tests changed what is deployed"


def _versions(cluster: Cluster) -> dict[str, Any]:
    return {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for kind in ("Deployment", "StatefulSet")
        for item in cluster.items("apps/v1", kind)
    }


@contextlib.contextmanager
def laptop(deployed: Installer, home: Path) -> Iterator[Project]:
    """`invoke up` on a developer's machine: Okteto's context file, no Docker, no variables."""
    store = home / "okteto" / "context" / "config.json"
    store.parent.mkdir(parents=True)
    entry = {"name": installer.INSTANCE, "namespace": NAMESPACE, "isOkteto": True}
    store.write_text(
        json.dumps({"contexts": {installer.INSTANCE: entry}, "current-context": installer.INSTANCE})
    )
    project = Project(
        home=home,
        patience=PATIENCE,
        variables={
            "KUBECONFIG": str(deployed.kubeconfig),
            "DOCKER_HOST": "unix:///nowhere.sock",
            "OKTETO_FOLDER": str(home / "okteto"),
            "INVOKE_WINDSOCK_TARGET": "okteto",
            "INVOKE_WINDSOCK_CLUSTER_PORT": str(free_port()),
        },
    )
    project.dags.mkdir()
    Folder(project).restore()
    with project.start("up") as up:
        up.wait_for("watching for saves", timeout=PATIENCE)
        yield project
        project.close()
        up.interrupt()
        up.end()
        assert "built from other files" not in up.text()
    assert_nothing_runs(project)


def test_a_laptop_syncs_saves_into_the_namespace_and_leaves_it_as_it_was(
    deployed: Installer, namespace: Cluster, home: Path
) -> None:
    before = _versions(namespace)
    with laptop(deployed, home / "laptop") as project:
        (project.dags / "fresh.py").write_text(dag_source("fresh", {"say": "print('hi')"}))
        run = project.invoke("dags.trigger", "fresh", "--wait", "--timeout=180", "--json")
        assert run.returncode == 0, run.stdout + run.stderr
        (project.dags / "fresh.py").unlink()
        assert "fresh" not in project.control.barrier(timeout=60).dags
    assert _versions(namespace) == before


FAN_OUT = """
from airflow.sdk import dag, task

@dag(schedule=None)
def fan_out():
    @task
    def wait(number):
        import time
        time.sleep(3)

    wait.expand(number=list(range(8)))

fan_out()
"""


def test_tasks_wait_for_a_quota_that_is_used_up(deployed: Installer, home: Path) -> None:
    with laptop(deployed, home / "quota") as project:
        (project.dags / "fan_out.py").write_text(FAN_OUT)
        run = project.invoke("dags.trigger", "fan_out", "--wait", "--timeout=240", "--json")
        assert run.returncode == 0, run.stdout + run.stderr
        said = project.invoke("logs", "scheduler", "--lines=2000").stdout
        assert "exceeded quota" in said, "the tasks fitted into the quota: nothing was shown"
        (project.dags / "fan_out.py").unlink()
        project.control.barrier(timeout=60)


def test_destroy_leaves_nothing_also_while_a_laptop_syncs(
    deployed: Installer, namespace: Cluster, home: Path
) -> None:
    assert ours(namespace)
    with laptop(deployed, home / "destroyed") as project:
        deployed.play("destroy", installer.manifest()["destroy"])
        assert ours(namespace) == []
        assert project.invoke("status").returncode == EnvironmentFailure.exit_code
    assert ours(namespace) == []
    assert namespace.items("v1", "PersistentVolumeClaim") == []
