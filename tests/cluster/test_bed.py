"""What the other suites take for granted of a cluster: volumes, names, exec and logs."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess

pytestmark = pytest.mark.cluster

IMAGE = "python:3.12-slim-bookworm"
USER = 50000
SERVE = "id -u >/data/user && echo serving && exec python3 -m http.server 8000 --directory /data"
FETCH = """
import sys, time, urllib.error, urllib.request
deadline = time.monotonic() + 30
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
        break
    except urllib.error.URLError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
"""
"""A name or an address is of use a moment after the pod behind it is ready, as on any cluster."""

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": 0,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER: dict[str, Any] = {
    "name": "main",
    "image": IMAGE,
    "imagePullPolicy": "IfNotPresent",
    "command": ["sh", "-c", SERVE],
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "readinessProbe": {"httpGet": {"port": 8000, "path": "/user"}, "periodSeconds": 1},
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}
VOLUME = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
MANIFESTS: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "pods",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "securityContext": RESTRICTED,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [CONTAINER],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": VOLUME}],
        },
    },
    *(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 8000}], **more},
        }
        for name, more in (("web", {}), ("pods", {"clusterIP": "None"}))
    ),
]


class Kubectl:
    def __init__(self, cluster: ClusterAccess, namespace: str) -> None:
        self._command = ["kubectl", f"--kubeconfig={cluster.kubeconfig}"]
        self._command += [f"--context={cluster.context}", f"--namespace={namespace}"]
        self.namespace = namespace

    def run(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [*self._command, *arguments], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fetch(self, address: str) -> str:
        return self.run("exec", "web-0", "--", "python3", "-c", FETCH, f"http://{address}").strip()


@pytest.fixture(scope="module")
def kubectl(cluster: ClusterAccess) -> Iterator[Kubectl]:
    if cluster.kind != "debian":
        pytest.skip("about the cluster from Debian's packages")
    kubectl = Kubectl(cluster, f"bed-{uuid.uuid4().hex[:8]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        listed = {"apiVersion": "v1", "kind": "List", "items": MANIFESTS}
        kubectl.run("apply", "--filename=-", given=json.dumps(listed))
        kubectl.run("rollout", "status", "statefulset/web", "--timeout=120s")
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def test_a_pod_that_is_not_root_writes_to_its_volume(kubectl: Kubectl) -> None:
    assert kubectl.run("exec", "web-0", "--", "cat", "/data/user").strip() == str(USER)


def test_the_log_of_a_pod_is_there(kubectl: Kubectl) -> None:
    assert "serving" in kubectl.run("logs", "web-1")


@pytest.mark.parametrize(
    "name", ["web", "web.{namespace}", "web.{namespace}.svc.cluster.local", "pods", "web-1.pods"]
)
def test_a_pod_reaches_services_and_pods_by_name(kubectl: Kubectl, name: str) -> None:
    host = name.format(namespace=kubectl.namespace)
    assert kubectl.fetch(f"{host}:8000/user") == str(USER)


def test_a_pod_reaches_itself_by_its_service(kubectl: Kubectl) -> None:
    kubectl.run("scale", "statefulset/web", "--replicas=1")
    kubectl.run("wait", "--for=delete", "pod/web-1", "--timeout=60s")
    assert kubectl.fetch("web:8000/user") == str(USER)


def test_a_name_goes_with_its_service(kubectl: Kubectl) -> None:
    kubectl.run("delete", "service", "web")
    until_gone = "while getent hosts web; do sleep 0.1; done"
    kubectl.run("exec", "web-0", "--", "timeout", "30", "sh", "-c", until_gone)


def test_up_again_changes_nothing(cluster: ClusterAccess) -> None:
    if cluster.kind != "debian":
        pytest.skip("about the cluster from Debian's packages")
    from tests.cluster.debian.cluster import state, up  # noqa: PLC0415 - only where it is asked for

    before = state()
    told: list[str] = []
    assert up(told.append) == cluster.kubeconfig
    assert told == ["Kubernetes is up already"]
    assert state() == before
