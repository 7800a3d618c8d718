"""An environment on the cluster under test, driven by commands, and a look at it from outside."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.e2e.folder import Folder
from tests.e2e.machine import free_port
from tests.e2e.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess

# A pod for each task takes its time: two seconds each, one after the other in a chain.
PATIENCE = 900.0

OURS = "app.kubernetes.io/part-of=windsock"
WORKERS = f"{OURS},app.kubernetes.io/component=worker"
KINDS = ",".join(
    (
        *("all", "configmaps", "secrets", "persistentvolumeclaims"),
        *("serviceaccounts", "roles", "rolebindings", "networkpolicies"),
    )
)


def project_on(
    cluster: ClusterAccess,
    home: Path,
    *,
    namespace: str,
    folders: Mapping[str, str] | None = None,
    airflow: Mapping[str, str] | None = None,
    **variables: str,
) -> Project:
    """A project whose commands go to a namespace of the cluster.

    Args:
        cluster: Under test.
        home: Its folders are made in it.
        namespace: Of the environment.
        folders: The setting `sync.folders`.
        airflow: The setting `airflow`.
        variables: Further variables of its commands.
    """
    allowed = home / "allowed.yaml"
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "cluster": {"allowed_contexts": [cluster.context]},
        "sync": {"folders": dict(folders or {})},
        "airflow": dict(airflow or {}),
    }
    allowed.write_text(json.dumps({"windsock": settings}))
    project = Project(
        home=home,
        patience=PATIENCE,
        variables={
            "KUBECONFIG": str(cluster.kubeconfig),
            "INVOKE_RUNTIME_CONFIG": str(allowed),
            **_target(cluster),
            "INVOKE_WINDSOCK_CLUSTER_CONTEXT": cluster.context,
            "INVOKE_WINDSOCK_CLUSTER_NAMESPACE": namespace,
            "INVOKE_WINDSOCK_CLUSTER_PORT": str(free_port()),
            **variables,
        },
    )
    project.dags.mkdir(exist_ok=True)
    Folder(project).restore()
    return project


def _target(cluster: ClusterAccess) -> dict[str, str]:
    if cluster.images != "kind":
        return {"INVOKE_WINDSOCK_TARGET": "context"}
    # The target that brings its images to the nodes.
    name = cluster.context.removeprefix("kind-")
    return {"INVOKE_WINDSOCK_TARGET": "kind", "INVOKE_WINDSOCK_CLUSTER_KIND_NAME": name}


class Kubectl:
    """kubectl, by which a person would look at the cluster without windsock."""

    def __init__(self, cluster: ClusterAccess, namespace: str) -> None:
        self._command = [
            "kubectl", f"--kubeconfig={cluster.kubeconfig}", f"--context={cluster.context}",
            f"--namespace={namespace}",
        ]  # fmt: skip
        self.namespace = namespace

    def command(self, *arguments: str) -> list[str]:
        return [*self._command, *arguments]

    def run(self, *arguments: str) -> str:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=True, timeout=120
        ).stdout

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        options = [f"--selector={selector}"] if selector else []
        found: list[dict[str, Any]] = json.loads(self.run("get", kind, "-o", "json", *options))[
            "items"
        ]
        return found

    def names(self, kind: str, selector: str = "") -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.items(kind, selector))

    def everything(self) -> set[str]:
        """Each object of the namespace, of whatever kind, as `kind/name`; events aside."""
        listable = self.run("api-resources", "--namespaced", "--verbs=list", "--output=name")
        kinds = [kind for kind in listable.split() if kind.partition(".")[0] != "events"]
        return set(self.run("get", ",".join(kinds), "--output=name").split())
