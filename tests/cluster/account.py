"""An account that has rights in one namespace only, as an administrator makes it for a person."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.room import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.cluster.api.client import Cluster

Manifest = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"


def make(cluster: Cluster, *, name: str, role_kind: str, role: str) -> None:
    """Make an account in a namespace that exists.

    Args:
        cluster: The namespace, as its administrator.
        name: Of the account.
        role_kind: `Role` or `ClusterRole`.
        role: What it may do there.
    """
    cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    bind(cluster, name, account=name, role_kind=role_kind, role=role)


def bind(cluster: Cluster, name: str, *, account: str, role_kind: str, role: str) -> None:
    """Give an account the rights of one more role, by a RoleBinding of this name."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": cluster.namespace}
    cluster.create(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role},
            "subjects": [subject],
        }
    )


def signed_in(cluster: Cluster, of_administrator: Path, *, name: str, context: str) -> Manifest:
    """The administrator's kubeconfig, signed in as the account.

    Args:
        cluster: The namespace, as its administrator.
        of_administrator: The kubeconfig that reaches it.
        name: Of the account.
        context: How the only context of the new kubeconfig is called.
    """
    token = f"{name}-signs-in"
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": token,
                "annotations": {"kubernetes.io/service-account.name": name},
            },
            "type": "kubernetes.io/service-account-token",
        }
    )
    found: Manifest = eventually(
        lambda: (cluster.get("v1", "Secret", token) or {}).get("data"), "the account's token"
    )
    values = yaml.safe_load(of_administrator.read_text(encoding="utf-8"))
    named = {item["name"]: item["context"] for item in values["contexts"]}
    server = next(
        item["cluster"]
        for item in values["clusters"]
        if item["name"] == named[cluster.context]["cluster"]
    )
    user = {"token": base64.b64decode(found["token"]).decode()}
    place = {"cluster": context, "user": "user", "namespace": cluster.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": server}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": context, "context": place}],
    }
