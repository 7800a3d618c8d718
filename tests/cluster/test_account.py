"""One namespace, an account that has rights there only, and all that a person does with it.

By hand first (`kubectl apply -k`), then by `invoke up`, which takes over what it finds. The
namespace is the administrator's: in the end it must be as windsock found it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster import account
from tests.cluster.deployed import PATIENCE, Kubectl, project_on
from tests.cluster.installer import docker
from tests.e2e.folder import EXAMPLE_DAGS
from tests.e2e.machine import assert_nothing_runs
from tests.e2e.project import ROOT, eventually
from windsock.cluster.api.client import Cluster
from windsock.cluster.manifests.render import AIRFLOW_IMAGE, POSTGRES_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

NAMESPACE = "windsock-account"
ACCOUNT = "anna"
KEPT = {
    *(f"persistentvolumeclaim/{name}" for name in ("dags", "logs", "data-postgres-0")),
    "secret/airflow-secrets",
}


@pytest.fixture(scope="module")
def administrator(cluster: ClusterAccess) -> Iterator[Kubectl]:
    """The namespace, as its administrator sees it; made and removed by them."""
    kubectl = Kubectl(cluster, NAMESPACE)
    kubectl.run("create", "namespace", NAMESPACE)
    try:
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", NAMESPACE)


@pytest.fixture(scope="module")
def person(cluster: ClusterAccess, administrator: Kubectl, home: Path) -> ClusterAccess:
    """The cluster as the account reaches it; its rights are those of kube/account.yaml."""
    administrator.run("apply", "-f", str(ROOT / "kube" / "account.yaml"))
    place = Cluster.connect(
        context=cluster.context, namespace=NAMESPACE, kubeconfig=str(cluster.kubeconfig)
    )
    account.make(place, name=ACCOUNT, role_kind="Role", role="windsock-user")
    kubeconfig = home / "kubeconfig"
    signed_in = account.signed_in(place, cluster.kubeconfig, name=ACCOUNT, context=cluster.context)
    kubeconfig.write_text(yaml.safe_dump(signed_in))
    return dataclasses.replace(cluster, kubeconfig=kubeconfig)


@pytest.fixture(scope="module")
def kubectl(person: ClusterAccess) -> Kubectl:
    """What the person types."""
    return Kubectl(person, NAMESPACE)


@pytest.fixture(scope="module")
def before(administrator: Kubectl, person: ClusterAccess) -> set[str]:
    """What is in the namespace before windsock sees it."""
    del person  # its account is in it
    return administrator.everything()


@pytest.fixture(scope="module")
def project(person: ClusterAccess, before: set[str], home: Path) -> Iterator[Project]:
    del before
    project = project_on(person, home / "project", namespace=NAMESPACE)
    try:
        yield project
    finally:
        project.close()
        project.invoke("down", "--volumes")
        assert_nothing_runs(project)


def test_the_account_may_do_nothing_outside_of_its_namespace(kubectl: Kubectl) -> None:
    said = kubectl.run("auth", "can-i", "--list", "--namespace=default")
    allowed = {line.split()[0] for line in said.splitlines()[1:] if not line.startswith(" ")}
    assert allowed == {
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
    }


@pytest.fixture
def images(cluster: ClusterAccess, project: Project) -> Iterator[None]:
    """The built images, under the names that kube/ uses."""
    if cluster.images != "docker":
        pytest.skip("the images are built for a cluster that runs what docker has")
    built = project.invoke("build")
    assert built.returncode == 0, built.stderr
    names = {AIRFLOW_IMAGE: "", POSTGRES_IMAGE: ""}
    for image in built.stdout.split():
        [name] = [name for name in names if name.partition(":")[0] == image.partition(":")[0]]
        docker("tag", image, name)
    try:
        yield
    finally:
        docker("image", "rm", "--no-prune", *names)


HEALTH = """
import urllib.request as u
print(u.urlopen("http://127.0.0.1:8080/api/v2/monitor/health", timeout=20).read().decode())
"""


@pytest.mark.usefixtures("images")
def test_kube_is_applied_by_hand_and_synced_to(
    project: Project, kubectl: Kubectl, home: Path
) -> None:
    secret = project.invoke("secret")
    assert secret.returncode == 0, secret.stderr
    overlay = home / "overlay"
    overlay.mkdir()
    base = os.path.relpath(ROOT / "kube" / "overlays" / "context", overlay)
    (overlay / "kustomization.yaml").write_text(
        json.dumps({"namespace": NAMESPACE, "resources": [base]})
    )
    kubectl.run("apply", "-k", str(overlay))
    # One after the other, as they wait for each other: each has its own time.
    kubectl.run("rollout", "status", "statefulset/postgres", "--timeout=110s")
    migration = ("jobs", "-l", "app.kubernetes.io/component=migrate")
    kubectl.run("wait", "--for=condition=complete", *migration, "--timeout=110s")
    for deployment in kubectl.names("deployments"):
        kubectl.run("rollout", "status", f"deployment/{deployment}", "--timeout=110s")

    def unhealthy() -> set[str]:
        look = ("exec", "deployment/airflow-api-server", "--", "python", "-c", HEALTH)
        health = json.loads(kubectl.run(*look))
        return {name for name, said in health.items() if said["status"] != "healthy"}

    eventually(lambda: unhealthy() == set(), "all of Airflow is healthy", every=1)
    context = project.variables["INVOKE_WINDSOCK_CLUSTER_CONTEXT"]
    with project.start("sync", "--context", context) as sync:
        sync.wait_for("watching for saves", timeout=PATIENCE)
        assert set(project.control.barrier(timeout=60).dags) == EXAMPLE_DAGS
        sync.interrupt()
        assert sync.end() == 0, sync.text()


def test_up_takes_over_what_was_applied_by_hand(project: Project) -> None:
    project.up()
    assert project.invoke("status").returncode == 0
    differs = project.invoke("diff")
    assert differs.returncode == 0, differs.stdout + differs.stderr
    tested = project.invoke("test", "-k", "without_its_cancelled_orders")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_down_keeps_the_volumes_and_the_secret(
    project: Project, administrator: Kubectl, before: set[str]
) -> None:
    def volumes() -> dict[str, str]:
        claims = administrator.items("persistentvolumeclaims")
        return {item["spec"]["volumeName"]: item["status"]["phase"] for item in claims}

    bound = volumes()
    assert set(bound.values()) == {"Bound"}
    project.close()
    down = project.invoke("down")
    assert down.returncode == 0, down.stderr
    assert_only(administrator, before | KEPT)
    assert volumes() == bound
    there = {item["metadata"]["name"] for item in administrator.items("persistentvolumes")}
    assert bound.keys() <= there


def test_down_with_volumes_leaves_the_namespace_as_it_was(
    project: Project, administrator: Kubectl, before: set[str]
) -> None:
    down = project.invoke("down", "--volumes")
    assert down.returncode == 0, down.stderr
    assert_only(administrator, before)
    assert_nothing_runs(project)


def assert_only(kubectl: Kubectl, wanted: set[str]) -> None:
    """Exactly these are there, once Kubernetes has removed the objects that it made itself."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: kubectl.everything() == wanted, "exactly these", every=0.5)
    assert kubectl.everything() == wanted
