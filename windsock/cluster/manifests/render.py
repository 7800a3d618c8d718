"""kube/, rendered by kustomize and changed as objects: never as text.

What differs between two environments (namespace, image tags, settings) is put into the objects
after kustomize has rendered them, so that kube/ stays what `kubectl apply -k` can read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Manifest = dict[str, Any]

AIRFLOW_IMAGE = "windsock-airflow:dev"
POSTGRES_IMAGE = "windsock-postgres:dev"
"""The names that kube/ uses."""

SETTINGS = "airflow-settings"
POD_TEMPLATE = "airflow-pod-template"
POD_TEMPLATE_KEY = "pod_template.yaml"
MIGRATE = "airflow-migrate"
DAGS_FOLDER = "WINDSOCK_DAGS_FOLDER"
CHECKSUM = "windsock.dev/configuration"
"""Annotation of pods: a digest of the ConfigMaps that they read when they start."""

UI_ONLY = "AIRFLOW__API__BASE_URL"
"""The setting that only the API server must restart for: another port on this machine."""

API_SERVER = "airflow-api-server"
OLDEST_KUBECTL = (1, 27)
RENDER_SECONDS = 60


def objects(
    project: Path,
    *,
    overlay: str,
    namespace: str,
    airflow_image: str,
    postgres_image: str,
    settings: Mapping[str, str],
    dags_folder: str,
    pull_secret: str = "",
) -> list[Manifest]:
    """Everything that an environment consists of, the Secret aside.

    Args:
        project: The folder that holds kube/.
        overlay: A folder below kube/overlays.
        namespace: Where the objects go.
        airflow_image: Tag of the image of Airflow.
        postgres_image: Tag of the image of the database.
        settings: The data of the ConfigMap `airflow-settings`.
        dags_folder: The folder on this machine, which tracebacks name.
        pull_secret: A Secret that pods pull their images with; empty means none.

    Raises:
        ConfigurationError: kubectl is missing or too old, or the overlay cannot be rendered, or
            lacks the settings.
        EnvironmentFailure: kubectl does not end.
    """
    rendered = render(project, overlay)
    settings_of(rendered)
    return complete(
        rendered,
        namespace=namespace,
        images={AIRFLOW_IMAGE: airflow_image, POSTGRES_IMAGE: postgres_image},
        settings=settings,
        dags_folder=dags_folder,
        pull_secret=pull_secret,
    )


def complete(
    rendered: Sequence[Manifest],
    *,
    namespace: str,
    images: Mapping[str, str],
    settings: Mapping[str, str],
    dags_folder: str,
    pull_secret: str = "",
) -> list[Manifest]:
    """Put into rendered objects what is an environment's own.

    Args:
        rendered: Objects of our own, which are changed.
        namespace: Where they go.
        images: Name in kube/ → tag.
        settings: The data of the ConfigMap `airflow-settings`.
        dags_folder: The folder on this machine.
        pull_secret: A Secret that pods pull their images with; empty means none.

    Returns:
        The same objects.
    """
    for item in rendered:
        item["metadata"]["namespace"] = namespace
        for subject in item.get("subjects") or []:
            if subject["kind"] == "ServiceAccount":
                subject["namespace"] = namespace
        _set_images(_pod(item), images)
        _set_pull_secret(_pod(item), pull_secret)
        _set_variable(_pod(item), DAGS_FOLDER, dags_folder)
        if _is(item, "ConfigMap", SETTINGS):
            item["data"] = dict(settings)
        elif _is(item, "ConfigMap", POD_TEMPLATE):
            _complete_pod_template(item, images, pull_secret)
    configuration = {
        item["metadata"]["name"]: item.get("data") or {}
        for item in rendered
        if item["kind"] == "ConfigMap"
    }
    for item in rendered:
        _annotate(item, configuration)
        if _is(item, "Job", MIGRATE):
            # A Job cannot be changed: another one has another name.
            item["metadata"]["name"] = f"{MIGRATE}-{_digest(item['spec'])}"
    return list(rendered)


def settings_of(objects: Sequence[Manifest]) -> Manifest:
    """The ConfigMap with an environment's settings.

    Raises:
        ConfigurationError: There is none: the overlay has taken it out, or given it another name.
    """
    found = next((item for item in objects if _is(item, "ConfigMap", SETTINGS)), None)
    if found is None:
        raise ConfigurationError(
            f"the overlay has no ConfigMap {SETTINGS}, from which every pod gets its settings",
            "Keep that of kube/base; windsock fills it.",
        )
    return found


def render(project: Path, overlay: str) -> list[Manifest]:
    """What `kubectl kustomize` makes of an overlay.

    Raises:
        ConfigurationError: As for `objects`.
        EnvironmentFailure: As for `objects`.
    """
    folder = project / "kube" / "overlays" / overlay
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise ConfigurationError(
            f"there is no overlay {folder}", f"There are: {', '.join(known) or 'none'}."
        )
    result = _kubectl("kustomize", str(folder))
    if result.returncode != 0:
        raise _refused(folder, result.stderr.strip())
    return [item for item in yaml.safe_load_all(result.stdout) if item]


def _refused(folder: Path, said: str) -> ConfigurationError:
    """Why kustomize failed: an old kubectl does not know what kube/ uses."""
    try:
        version = json.loads(_kubectl("version", "--client", "--output=json").stdout)
        client = version["clientVersion"]
        found = int(client["major"]), int(client["minor"].rstrip("+"))
    except (ValueError, KeyError, TypeError):
        found = OLDEST_KUBECTL
    if found < OLDEST_KUBECTL:
        return ConfigurationError(
            f"kubectl {found[0]}.{found[1]} is too old to render {folder}",
            "Get version 1.27 or newer: https://kubernetes.io/docs/tasks/tools",
        )
    return ConfigurationError(f"kustomize cannot render {folder}", said)


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("kubectl")
    if program is None:
        raise ConfigurationError(
            "kubectl is not installed here",
            "Get version 1.27 or newer (https://kubernetes.io/docs/tasks/tools), or run without a "
            "cluster: `invoke up --target local`.",
        )
    try:
        return subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RENDER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(
            f"`kubectl {arguments[0]}` did not end within {RENDER_SECONDS} s"
        ) from None
    except OSError as error:
        raise EnvironmentFailure(f"{program} cannot be started: {error}") from error


def _is(item: Manifest, kind: str, name: str) -> bool:
    return bool(item["kind"] == kind and item["metadata"]["name"] == name)


def _pod(item: Manifest) -> Manifest:
    """The pod that a workload makes; empty for anything else."""
    template = (item.get("spec") or {}).get("template")
    return template if isinstance(template, dict) and "spec" in template else {}


def _containers(pod: Manifest) -> Iterator[Manifest]:
    spec = pod.get("spec") or {}
    yield from spec.get("initContainers") or []
    yield from spec.get("containers") or []


def _set_images(pod: Manifest, images: Mapping[str, str]) -> None:
    for container in _containers(pod):
        if "image" in container:
            container["image"] = images.get(container["image"], container["image"])


def _set_pull_secret(pod: Manifest, name: str) -> None:
    """In the pods, not in their accounts: so a pod that could not pull is made anew."""
    if pod and name:
        pod["spec"].setdefault("imagePullSecrets", []).append({"name": name})


def _set_variable(pod: Manifest, name: str, value: str) -> None:
    for container in _containers(pod):
        for variable in container.get("env") or []:
            if variable["name"] == name:
                variable["value"] = value


def _complete_pod_template(item: Manifest, images: Mapping[str, str], pull_secret: str) -> None:
    """Workers run the same image as everything else."""
    template = yaml.safe_load(item["data"][POD_TEMPLATE_KEY])
    _set_images(template, images)
    _set_pull_secret(template, pull_secret)
    item["data"][POD_TEMPLATE_KEY] = yaml.safe_dump(template, sort_keys=False)


def _annotate(item: Manifest, configuration: Mapping[str, Mapping[str, str]]) -> None:
    """Let a change of a ConfigMap roll the workloads that read it, and no others."""
    pod = _pod(item)
    text = json.dumps(pod.get("spec"))
    used: dict[str, Any] = {
        name: data for name, data in configuration.items() if f'"{name}"' in text
    }
    if not used:
        return
    if SETTINGS in used and item["metadata"]["name"] != API_SERVER:
        used[SETTINGS] = {key: value for key, value in used[SETTINGS].items() if key != UI_ONLY}
    annotations = pod.setdefault("metadata", {}).setdefault("annotations", {})
    annotations[CHECKSUM] = _digest(used)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
