"""The little that the test bed itself asks of the API server, over plain HTTP."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx

from tests.cluster.debian import certificates, places

if TYPE_CHECKING:
    from collections.abc import Mapping

STORAGE_CLASS: Mapping[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kubernetes.io/host-path",
}


def connect(address: str) -> httpx.Client:
    """A client of the API server, as the cluster's administrator."""
    context = ssl.create_default_context(cafile=certificates.certificate("ca"))
    context.load_cert_chain(certificates.certificate("admin"), certificates.key("admin"))
    return httpx.Client(
        base_url=f"https://{address}:{places.API_PORT}",
        verify=context,
        trust_env=False,  # no proxy stands between
        timeout=10,
    )


def is_ready(client: httpx.Client) -> bool:
    """Whether the API server answers, its own roles included."""
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def add_storage_class(client: httpx.Client) -> None:
    """Add the default StorageClass, `standard`."""
    answer = client.post("/apis/storage.k8s.io/v1/storageclasses", json=STORAGE_CLASS)
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()


def node_is_ready(client: httpx.Client) -> bool:
    """Whether the kubelet has registered and takes pods, which need a ServiceAccount to be made."""
    try:
        node = client.get(f"/api/v1/nodes/{places.NODE}")
        account = client.get("/api/v1/namespaces/default/serviceaccounts/default")
    except httpx.TransportError:
        return False
    if not (node.is_success and account.is_success):
        return False
    conditions = node.json().get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
