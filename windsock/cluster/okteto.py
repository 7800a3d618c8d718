"""What Okteto knows: its context and namespace, the images that it built, and the UI's address.

Okteto sets its variables where its own commands run windsock. On a developer's machine the context
comes from the file that `okteto context use` writes. windsock reads no token from that file: it
reaches the cluster through the kubeconfig that Okteto wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from windsock.cluster.images import image
from windsock.cluster.manifests.render import API_SERVER, SETTINGS, UI_ONLY
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.cluster.api.client import Cluster

CONTEXT = "OKTETO_CONTEXT"
NAMESPACE = "OKTETO_NAMESPACE"
DOMAIN = "OKTETO_DOMAIN"
FOLDER = "OKTETO_FOLDER"
HOME = "OKTETO_HOME"
IMAGES = {"airflow": "OKTETO_BUILD_AIRFLOW_IMAGE", "postgres": "OKTETO_BUILD_POSTGRES_IMAGE"}
"""Target of docker/Dockerfile → the variable that names the image which Okteto built of it."""

WORKLOADS = {
    "airflow": ("apps/v1", "Deployment", "airflow-dag-processor"),
    "postgres": ("apps/v1", "StatefulSet", "postgres"),
}
"""Target of docker/Dockerfile → a workload that runs its image."""

RECIPE = "windsock.dev/images-made-of"
"""Annotation of the ConfigMap of settings: the tags of what the images were built from."""

CONTEXT_HINT = (
    "Run `okteto context use https://okteto.example.com`, `okteto namespace use NAME` and then "
    f"`okteto kubeconfig`; on a runner set {CONTEXT} and {NAMESPACE}."
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is to run, or runs, in a namespace of Okteto.

    Attributes:
        images: Built by Okteto.
        recipe: The tags of what they were built from; empty if unknown.
        url: Where people reach the UI; empty if unknown.
    """

    images: image.Images
    recipe: str
    url: str


def place(variables: Mapping[str, str]) -> tuple[str, str]:
    """The kube context and the namespace to which Okteto deploys now.

    They come from Okteto's variables, or else from its context file.

    Args:
        variables: The environment variables of this process.

    Raises:
        ConfigurationError: Okteto names neither, or its context is a plain cluster.
    """
    known = _contexts(variables)
    name = (variables.get(CONTEXT) or str(known.get("current-context") or "")).rstrip("/")
    if not name:
        raise ConfigurationError("Okteto has no context", CONTEXT_HINT)
    contexts = known.get("contexts") or {}
    entry = contexts.get(name) or {}
    host = urlsplit(name).netloc
    if not host or entry.get("isOkteto") is False:
        # such a cluster must be allowed first, as any other context
        raise ConfigurationError(
            f"the context {name} of Okteto is no Okteto instance",
            f"Use the target `context` for it: `invoke up --context {name}`, or choose another one."
            f"\n{CONTEXT_HINT}",
        )
    namespace = variables.get(NAMESPACE) or str(entry.get("namespace") or "")
    if not namespace:
        raise ConfigurationError(
            f"Okteto has no namespace for {name}",
            "Run `okteto namespace use NAME`, and `okteto kubeconfig` after it.",
        )
    return host.replace(".", "_"), namespace


def _contexts(variables: Mapping[str, str]) -> dict[str, Any]:
    """The content of the context file; empty if there is none."""
    home = Path(variables.get(HOME) or variables.get("HOME") or Path.home())
    path = Path(variables.get(FOLDER) or home / ".okteto") / "context" / "config.json"
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return {**loaded, "contexts": {key: {**item} for key, item in loaded["contexts"].items()}}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"Okteto's context file {path} cannot be read: {error!r}",
            "`okteto context list` reads it as well.",
        ) from error


def deployment(
    variables: Mapping[str, str], cluster: Cluster, *, wanted: image.Images
) -> Deployment:
    """What to run: what Okteto has just built, or else what runs in the namespace already.

    Args:
        variables: The environment variables of this process.
        cluster: With the namespace.
        wanted: The tags that the files on disk stand for.

    Raises:
        EnvironmentFailure: Okteto has built nothing, and nothing runs there.
    """
    settings = cluster.get("v1", "ConfigMap", SETTINGS) or {}
    if domain := variables.get(DOMAIN):
        url = f"https://{API_SERVER}-{cluster.namespace}.{domain}"
    else:
        url = str((settings.get("data") or {}).get(UI_ONLY, ""))
    images = {target: variables.get(name, "") for target, name in IMAGES.items()}
    made_of = recipe(wanted)
    if not all(images.values()):
        images = _running(cluster)
        made_of = ((settings.get("metadata") or {}).get("annotations") or {}).get(RECIPE, "")
    found = image.Images(airflow=images["airflow"], postgres=images["postgres"])
    return Deployment(images=found, recipe=made_of, url=url)


def _running(cluster: Cluster) -> dict[str, str]:
    running = {
        target: str(item["spec"]["template"]["spec"]["containers"][0]["image"])
        for target, workload in WORKLOADS.items()
        if (item := cluster.get(*workload)) is not None
    }
    if running.keys() != WORKLOADS.keys():
        raise EnvironmentFailure(
            f"nothing is deployed in namespace {cluster.namespace} yet",
            "`okteto pipeline deploy` (a pushed branch) or `okteto deploy` (your files) builds the "
            "images and deploys them.",
        )
    return running


def recipe(images: image.Images) -> str:
    """What images were built from, as it stands in the annotation `RECIPE`."""
    return f"{images.airflow} {images.postgres}"
