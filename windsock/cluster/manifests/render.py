"""kube/, rendered by kustomize.

What differs between two environments (namespace, images, settings) is a kustomization of its own on
top of the overlay, so that kube/ stays what `kubectl apply -k` can read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from windsock.cluster import kubectl
from windsock.cluster.manifests.secrets import VARIABLES
from windsock.errors import ConfigurationError
from windsock.local.commands import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from windsock.local.commands import Finished

Manifest = dict[str, Any]

AIRFLOW_IMAGE = "windsock-airflow:dev"
POSTGRES_IMAGE = "windsock-postgres:dev"
"""The images' names in kube/."""

SETTINGS = "airflow-settings"
POD_TEMPLATE = "airflow-pod-template"
"""The names of two ConfigMaps; kustomize adds a digest to that of the pod template."""

POD_TEMPLATE_KEY = "pod_template.yaml"
PULL_SECRETS = "WINDSOCK_WORKER_PULL_SECRETS"
CHECKSUM = "windsock.dev/configuration"
"""Annotation of pods: a digest of the ConfigMaps that they read when they start."""

UI_ONLY = "AIRFLOW__API__BASE_URL"
"""The setting for which only the API server restarts: another port on this machine."""

API_SERVER = "airflow-api-server"
WORKLOADS = "Deployment|StatefulSet|DaemonSet|Job"
RENDER_SECONDS = 60
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C takes a tenth of the time; PyYAML has it in all its wheels."""


def objects(
    project: Path,
    *,
    overlay: str,
    namespace: str,
    images: Mapping[str, str],
    settings: Mapping[str, str],
    pull_secret: str = "",
    components: Sequence[str] = (),
    variables: str = "",
) -> list[Manifest]:
    """All objects of an environment, except the Secret.

    Args:
        project: The folder with kube/.
        overlay: A folder below kube/overlays.
        namespace: Where the objects go.
        images: Name in kube/ → name with a tag or a digest; a missing one stays as in kube/.
        settings: Values that go over those of the ConfigMap `airflow-settings`.
        pull_secret: A Secret that pods pull their images with; empty means none.
        components: Folders below kube/components, besides those of the overlay.
        variables: The digest of the project's variables; another one rolls what reads them.

    Raises:
        ConfigurationError: kubectl is missing or too old, or the overlay cannot be rendered, or
            lacks the settings.
    """
    values = dict(settings)
    patches = []
    if pull_secret:
        secrets = [{"name": pull_secret}]
        values[PULL_SECRETS] = json.dumps(secrets)
        patches = [_pull_patch(secrets)]
    patches.append(_settings_patch(values))
    folder = _overlay(project, overlay)
    with tempfile.TemporaryDirectory(prefix="windsock-kube-") as name:
        top = Path(name).resolve()
        kustomization = {
            "namespace": namespace,
            "resources": [_relative(folder, top)],
            "components": [
                _relative(project / "kube/components" / each, top) for each in components
            ],
            "images": [_image(*pair) for pair in images.items()],
            "patches": patches,
        }
        (top / "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")
        rendered = _kustomize(top, overlay=folder)
    settings_of(rendered)
    return _with_checksums(rendered, variables)


class ManifestDumper(yaml.SafeDumper):
    """Quotes a string that Kubernetes would read as a number, and PyYAML would not: `12e45`."""


ManifestDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|0o?[0-7]+$", re.IGNORECASE),
    list("-+.0123456789"),
)


def as_yaml(objects: Sequence[Manifest]) -> str:
    """Manifests as YAML documents, as kubectl and Tilt read them."""
    return yaml.dump_all(objects, Dumper=ManifestDumper, sort_keys=False)


def _relative(folder: Path, top: Path) -> str:
    """Kustomize takes no absolute path."""
    return os.path.relpath(folder.resolve(), top)


def _image(known: str, wanted: str) -> dict[str, str]:
    """An entry of `images:`, for an image with a tag or a digest."""
    name = known.partition(":")[0]
    new, at, digest = wanted.partition("@")
    if at:
        return {"name": name, "newName": new, "digest": digest}
    new, _, tag = wanted.rpartition(":")
    return {"name": name, "newName": new, "newTag": tag}


def _settings_patch(values: Mapping[str, str]) -> Manifest:
    """An entry of `patches:` for the ConfigMap, which an overlay may lack.

    A strategic merge would make kustomize read the schema of Kubernetes: half a second.
    """
    additions = [
        {"op": "add", "path": f"/data/{name}", "value": value} for name, value in values.items()
    ]
    return {"target": {"kind": "ConfigMap", "name": SETTINGS}, "patch": json.dumps(additions)}


def _pull_patch(secrets: Sequence[Manifest]) -> Manifest:
    """An entry of `patches:` for every pod, besides the Secrets that an overlay names.

    In the pods, not in their accounts: a pod that could not pull is replaced.
    """
    pod = {"spec": {"imagePullSecrets": secrets}}
    body = {"apiVersion": "v1", "kind": "Any", "metadata": {"name": "any"}}
    patch = json.dumps({**body, "spec": {"template": pod}})
    return {"target": {"kind": WORKLOADS, "name": ".*"}, "patch": patch}


def settings_of(objects: Sequence[Manifest]) -> Manifest:
    """The ConfigMap with an environment's settings.

    Raises:
        ConfigurationError: There is none: the overlay has taken it out, or given it another name.
    """
    for item in objects:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] == SETTINGS:
            return item
    raise ConfigurationError(
        f"the overlay has no ConfigMap {SETTINGS}, from which every pod gets its settings",
        "Keep the one of kube/base; windsock puts an environment's own settings into it.",
    )


def variables_of(objects: Sequence[Manifest]) -> set[str]:
    """The names that manifests set themselves, over the project's variables."""
    pods = [(item.get("spec") or {}).get("template") for item in objects]
    containers = [
        each for pod in pods if isinstance(pod, dict) for each in pod["spec"]["containers"]
    ]
    return {
        variable["name"]
        for container in containers
        if f'"{VARIABLES}"' in json.dumps(container.get("envFrom"))
        for variable in container.get("env") or []
    }


def render(project: Path, overlay: str) -> list[Manifest]:
    """What `kubectl kustomize` makes of an overlay alone."""
    folder = _overlay(project, overlay)
    return _kustomize(folder, overlay=folder)


def _overlay(project: Path, name: str) -> Path:
    folder = project / "kube" / "overlays" / name
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise ConfigurationError(
            f"there is no overlay {folder}", f"There are: {', '.join(known) or 'none'}."
        )
    return folder


def _kustomize(folder: Path, *, overlay: Path) -> list[Manifest]:
    result = _kubectl("kustomize", str(folder))
    if result.code != 0:
        raise _refused(overlay, result.errors.strip())
    return [item for item in yaml.load_all(result.output, LOADER) if item]


def _refused(folder: Path, words: str) -> ConfigurationError:
    """Why kustomize failed: an old kubectl does not know what kube/ uses."""
    try:
        version = json.loads(_kubectl("version", "--client", "--output=json").output)
        client = version["clientVersion"]
        found = int(client["major"]), int(client["minor"].rstrip("+"))
    except (ValueError, KeyError, TypeError):
        found = kubectl.OLDEST
    if found < kubectl.OLDEST:
        return ConfigurationError(
            f"kubectl {found[0]}.{found[1]} is too old to render {folder}", kubectl.GET
        )
    return ConfigurationError(f"kustomize cannot render {folder}", words)


def _kubectl(*arguments: str) -> Finished:
    command = [kubectl.program(), *arguments]
    return run(command, environment=os.environ, folder=Path.cwd(), seconds=RENDER_SECONDS)


def _with_checksums(rendered: list[Manifest], variables: str) -> list[Manifest]:
    """Let a change of a ConfigMap, or of the project's variables, roll what reads it, and no more.

    A digest in the name of the settings would do that too, but a pod of a task that waits for a
    node would lose its settings when the next ones are applied.
    """
    maps = [item for item in rendered if item["kind"] == "ConfigMap"]
    configuration = {item["metadata"]["name"]: item.get("data") or {} for item in maps}
    for item in rendered:
        pod = (item.get("spec") or {}).get("template")
        if not isinstance(pod, dict):
            continue
        text = json.dumps(pod.get("spec"))
        used: dict[str, Any] = {
            name: data for name, data in configuration.items() if f'"{name}"' in text
        }
        if SETTINGS in used and item["metadata"]["name"] != API_SERVER:
            used[SETTINGS] = {key: each for key, each in used[SETTINGS].items() if key != UI_ONLY}
        if variables and f'"{VARIABLES}"' in text:
            used[VARIABLES] = variables
        if used:
            annotations = pod.setdefault("metadata", {}).setdefault("annotations", {})
            digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()
            annotations[CHECKSUM] = digest[:10]
    return rendered
