"""`okteto pipeline deploy` without Okteto: its installer is played on the cluster under test.

The cases go on from one another: a namespace in which it was deployed, a laptop that syncs into it
and two that Okteto takes the sync from, and in the end nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tarfile
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import installer, okteto_up
from tests.cluster.conftest import ClusterAccess
from tests.cluster.deployed import Kubectl
from tests.cluster.okteto_proxy import LABEL
from tests.cluster.stand_ins import kubectl_image
from tests.e2e.folder import EXAMPLE_DAGS, Folder, dag_source
from tests.e2e.machine import assert_nothing_runs, free_port
from tests.e2e.project import ROOT, Command, Project, eventually
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.failures import Refusal
from windsock.errors import DagError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.installer import Installer

PATIENCE = 600.0
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

NAMESPACE = "okteto-played"
MANIFEST = installer.manifest()


@pytest.fixture(scope="module")
def okteto(cluster: ClusterAccess, home: Path) -> Iterator[Installer]:
    """A namespace of Okteto, and the images that it has built."""
    if cluster.images != "docker":
        pytest.skip("the images are built for a cluster that runs what docker has")
    with (
        kubectl_image(home) as kubectl,
        installer.built({"KUBECTL_IMAGE": kubectl}) as images,
        installer.prepared(cluster, namespace=NAMESPACE, images=images, folder=home) as okteto,
    ):
        yield okteto


@pytest.fixture(scope="module")
def before(okteto: Installer) -> set[str]:
    """Everything that is in the namespace before anything of ours."""
    return everything(okteto)


@pytest.fixture(scope="module")
def deployed(okteto: Installer, before: set[str]) -> Installer:
    """The commands of `deploy` have run."""
    del before  # Looked at first.
    played = okteto.play("deploy", MANIFEST["deploy"])
    assert played.code == 0, played.said
    assert f"{len(EXAMPLE_DAGS)} DAGs parsed" in played.said
    return okteto


@pytest.fixture
def namespace(deployed: Installer) -> Cluster:
    """The namespace, with the rights of its user."""
    return Cluster.connect(
        context=installer.CONTEXT, namespace=NAMESPACE, kubeconfig=str(deployed.kubeconfig)
    )


AUTOMATIC = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
OF_THE_ACCOUNT = (
    *("serviceaccount", "secret"),
    *("role.rbac.authorization.k8s.io", "rolebinding.rbac.authorization.k8s.io"),
)


def everything(okteto: Installer) -> set[str]:
    """Every object of every kind that can be listed in the namespace.

    Aside: events, what Kubernetes puts into any namespace a moment after it was made, and what is
    the account's own.
    """
    names = Kubectl(okteto.access, NAMESPACE).everything()
    apart = ("secret/default-token-", *(f"{kind}/{installer.ACCOUNT}" for kind in OF_THE_ACCOUNT))
    return {name for name in names - AUTOMATIC if not name.startswith(apart)}


def versions(cluster: Cluster) -> dict[str, Any]:
    return {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for kind in ("Deployment", "StatefulSet")
        for item in cluster.items("apps/v1", kind)
    }


# --- what was deployed ----------------------------------------------------------------------------


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


def test_oktetos_proxy_labels_the_secret_and_nothing_that_is_applied(namespace: Cluster) -> None:
    secret = namespace.get("v1", "Secret", "airflow-secrets")
    assert secret is not None
    assert secret["metadata"]["labels"][LABEL] == installer.NAME
    for kind in ("Deployment", "StatefulSet"):
        for item in namespace.items("apps/v1", kind):
            assert LABEL not in item["metadata"]["labels"]


# --- a laptop that syncs --------------------------------------------------------------------------


@contextlib.contextmanager
def laptop(okteto: Installer, home: Path) -> Iterator[tuple[Project, Command]]:
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
            "KUBECONFIG": str(okteto.kubeconfig),
            "DOCKER_HOST": "unix:///nowhere.sock",
            "OKTETO_FOLDER": str(home / "okteto"),
            "INVOKE_WINDSOCK_TARGET": "okteto",
            # As it was deployed: else each `up` would roll Airflow.
            "INVOKE_WINDSOCK_RUN_SCHEDULES": "false",
            "INVOKE_WINDSOCK_CLUSTER_PORT": str(free_port()),
        },
    )
    project.dags.mkdir()
    Folder(project).restore()
    with project.start("up") as up:
        up.wait_for("watching for saves", timeout=PATIENCE)
        yield project, up
        project.close()
        up.interrupt()
        up.end()
        assert "built from other files" not in up.text()
    assert_nothing_runs(project)


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


def test_a_laptop_syncs_into_the_namespace_its_tasks_wait_for_the_quota_and_all_stays_as_it_was(
    deployed: Installer, namespace: Cluster, home: Path
) -> None:
    before = versions(namespace)
    with laptop(deployed, home / "laptop") as (project, _):
        (project.dags / "fan_out.py").write_text(FAN_OUT)
        run = project.invoke("dags.trigger", "fan_out", "--wait", "--timeout=240")
        said = run.stdout + run.stderr
        assert run.returncode == 0, said
        # Why it waits, unless all tasks fitted into the quota.
        assert "pod may not be made now: " in said, said
        assert "exceeded quota" in said, said
        (project.dags / "fan_out.py").unlink()
        assert "fan_out" not in project.control.barrier(timeout=60).dags
    assert versions(namespace) == before


@pytest.fixture(scope="module")
def working(deployed: Installer, home: Path) -> Iterator[tuple[Project, Command]]:
    """Another laptop, which syncs to the end."""
    with laptop(deployed, home / "working") as started:
        yield started


def take_back(project: Project) -> None:
    """What the terminal says to do about a sync that was taken over."""
    with project.start("sync", "--take-over") as again:
        again.wait_for("the sync is ours now")


# --- okteto test ----------------------------------------------------------------------------------


FEW = {"test_morning_delivery.py", "test_restock.py"}
"""DAG tests enough here: an asset, a task that the triggerer ends. test_environment.py runs all."""
LEFT_OUT = {
    f"tests/dags/{path.name}": None
    for path in (ROOT / "tests/dags").glob("test_*.py")
    if path.name not in FEW
}


def report(folder: Path) -> ET.Element:
    suite = ET.parse(folder / "junit.xml").getroot().find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    return suite


def test_okteto_test_runs_the_dag_tests_although_somebody_syncs_who_can_take_it_back(
    deployed: Installer,
    namespace: Cluster,
    working: tuple[Project, Command],
    tmp_path: Path,
) -> None:
    project, terminal = working
    before = versions(namespace)
    with pytest.raises(Refusal):
        namespace.items("coordination.k8s.io/v1", "Lease")  # The store alone knows who syncs.
    # It is told the toolkit's image alone: what to test on is what runs there.
    assert "OKTETO_BUILD_AIRFLOW_IMAGE" not in deployed.variables(
        "test.dags", MANIFEST["test"]["dags"]["image"]
    )
    played = deployed.play("test.dags", MANIFEST["test"]["dags"], keep=tmp_path, changes=LEFT_OUT)
    assert played.code == 0, played.said
    assert int(report(tmp_path).attrib["tests"]) >= len(FEW)
    assert report(tmp_path).attrib["failures"] == report(tmp_path).attrib["errors"] == "0"
    assert versions(namespace) == before, "the tests changed what is deployed"

    terminal.wait_for("has taken the sync over, since")
    terminal.wait_for("invoke sync --take-over")
    take_back(project)
    (project.dags / "fresh.py").write_text(dag_source("fresh"))
    assert "fresh" in project.control.barrier(timeout=60).dags


def test_a_test_that_fails_leaves_its_report(
    deployed: Installer,
    namespace: Cluster,
    working: tuple[Project, Command],
    tmp_path: Path,
) -> None:
    deployed.allow_leases()  # As of newer versions of Kubernetes; from here on, to the end.
    played = deployed.play(
        "test.dags",
        MANIFEST["test"]["dags"],
        keep=tmp_path,
        changes={
            "tests/dags": None,
            "tests/dags/test_wrong.py": "def test_wrong(airflow):\n    assert airflow is None\n",
        },
    )
    assert played.code == DagError.exit_code, played.said
    assert report(tmp_path).attrib["failures"] == "1"
    take_back(working[0])
    assert namespace.items("coordination.k8s.io/v1", "Lease")


# --- okteto up ------------------------------------------------------------------------------------


def in_shell(okteto: Installer, name: str, *command: str, stdin: bytes) -> str:
    """Run a command in the container of `okteto up`, as the user that it runs as."""
    access = ClusterAccess("context", okteto.kubeconfig, installer.CONTEXT, images="docker")
    kubectl = Kubectl(access, NAMESPACE)
    done = subprocess.run(
        kubectl.command("exec", "--stdin", f"deployment/{name}", "--", *command),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def packed(name: str, source: str) -> bytes:
    """A tar of one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(source)
        archive.addfile(member, io.BytesIO(source.encode()))
    return data.getvalue()


def test_okteto_up_runs_what_is_synced_to_its_shell_and_a_redeploy_leaves_it_there(
    deployed: Installer, namespace: Cluster, working: tuple[Project, Command]
) -> None:
    project, terminal = working
    [(name, part)] = MANIFEST["dev"].items()
    source = dag_source("of_the_shell", {"say": "print('IN THE', 'SHELL')"})
    with okteto_up.up(namespace, name, part) as clone:
        assert in_shell(deployed, clone, "id", "-u", stdin=b"").strip() == "50000"
        folder = part["workdir"]
        in_shell(deployed, clone, "tar", "-xC", folder, stdin=packed("of_the_shell.py", source))
        said = in_shell(
            deployed, clone, *part["command"], stdin=b"airflow dags test of_the_shell\n"
        )
        assert "IN THE SHELL" in said
        listed = {dag.dag_id for dag in project.airflow.dags()}
        assert "of_the_shell" not in listed, "a shell is nobody's Airflow"

        shell = uid_of(namespace, clone)
        told = len(terminal.lines)
        played = deployed.play("deploy", MANIFEST["deploy"])
        assert played.code == 0, played.said
        assert "`okteto up` has taken its place" in played.said
        terminal.wait_for("has taken the sync over, since", after=told)
        assert uid_of(namespace, clone) == shell
        original = namespace.get("apps/v1", "Deployment", name)
        assert original is not None
        assert original["spec"]["replicas"] == 0
    take_back(project)


def uid_of(namespace: Cluster, clone: str) -> str:
    """Of the pod of a clone."""
    label = f"interactive.dev.okteto.com={clone.removesuffix('-okteto')}"
    [pod] = namespace.items("v1", "Pod", selector=label)
    return str(pod["metadata"]["uid"])


# --- the end --------------------------------------------------------------------------------------


def test_destroy_leaves_nothing_also_while_a_laptop_syncs(
    deployed: Installer, before: set[str], working: tuple[Project, Command]
) -> None:
    project, _ = working
    assert everything(deployed) > before
    played = deployed.play("destroy", MANIFEST["destroy"])
    assert played.code == 0, played.said
    with contextlib.suppress(AssertionError):  # What is left is told below.
        eventually(lambda: everything(deployed) == before, "what others made went with it")
    assert everything(deployed) == before
    assert project.invoke("status").returncode == EnvironmentFailure.exit_code
