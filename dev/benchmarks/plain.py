"""Airflow on Kubernetes as people write it down first, to compare with windsock.

The same image, database, volumes, probes and resources, in another namespace. What differs is
what a first version lacks: Python finds no bytecode (as in an image that was built without), a
task's pod runs the executor's command as it is, and Airflow's settings are its defaults. Its DAGs
are a ConfigMap that the dag-processor and the workers mount, so that nothing waits for a copy.

In its favour: no example DAGs, no triggerer, no bytecode is written at each start, and a readiness
that is looked at each second.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from dev.benchmarks.environment import uninterrupted
from dev.benchmarks.observer import Observer
from windsock.cluster.access.forward import Forward, ForwardSettings
from windsock.cluster.api import workloads
from windsock.cluster.images import image
from windsock.cluster.manifests import removal, secrets, settings
from windsock.cluster.manifests import render as manifests
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout
from windsock.files import private_folder
from windsock.local.ports import LOOPBACK
from windsock.local.secrets import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.config import Settings

TIMEOUT = 240.0
DAGS = "bench-dags"
DAGS_FOLDER = "/opt/airflow/dags"
NO_BYTECODE = "/opt/airflow/no-bytecode"

LEFT_OUT = ("airflow-triggerer",)
NEEDED = (
    *("AIRFLOW__CORE__LOAD_EXAMPLES", "AIRFLOW__CORE__EXECUTOR"),
    *("AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"),
    *("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "AIRFLOW__CORE__HOSTNAME_CALLABLE"),
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    *("AIRFLOW__API__HOST", "AIRFLOW__API__PORT", "AIRFLOW__API__BASE_URL"),
    *("AIRFLOW__API__WORKERS", "AIRFLOW__LOGGING__BASE_LOG_FOLDER"),
    "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH",
    "AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS",
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT",
)
"""Without these it does not work in a cluster; everything else is Airflow's default."""

POD_TEMPLATE_FILE = "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"
POD_TEMPLATE = "/opt/airflow/pod-template/pod_template.yaml"
"""Where the pod of the scheduler has it; nothing in it is filled in there."""


@dataclass(frozen=True, kw_only=True)
class PlainUp:
    """A plain Airflow that answers.

    Attributes:
        observer: Looks at it.
        seconds: From the first object until the API was healthy and listed its DAGs.
    """

    observer: Observer
    seconds: float


@contextmanager
def plain(
    cluster: Cluster, wanted: Settings, *, folder: Path, dags: Mapping[str, str]
) -> Iterator[PlainUp]:
    """A plain Airflow in the namespace of `cluster`; nothing of it is left afterwards.

    Args:
        cluster: With a namespace for this Airflow alone.
        wanted: The project's settings, for its image and its manifests.
        folder: For the secrets.
        dags: DAG id → source of its file.

    Raises:
        WindsockError: It did not come up.
    """
    with ExitStack() as stack:
        stack.callback(_remove, cluster)
        cluster.ensure_namespace()
        own = secrets.ensure(cluster, private_folder(folder) / "secrets")
        objects = _objects(cluster, wanted, dags)
        started = time.monotonic()
        _deploy(cluster, objects)
        forward = Forward(cluster, _forward_settings(cluster, wanted))
        stack.callback(_serve(forward))
        observer = stack.enter_context(
            Observer(f"http://{LOOPBACK}:{forward.port}", ADMIN, own.admin_password)
        )
        for dag_id in dags:
            observer.seconds_until(
                lambda dag_id=dag_id: observer.lists(dag_id),  # type: ignore[misc] # bound early
                what=f"{dag_id} listed",
                timeout=TIMEOUT,
                interval=0.2,
            )
        yield PlainUp(observer=observer, seconds=time.monotonic() - started)


def _remove(cluster: Cluster) -> None:
    with uninterrupted():
        removal.delete_all(cluster, volumes=True, progress=_silent)


def _silent(_text: str) -> None:
    pass


def _deploy(cluster: Cluster, objects: list[Object]) -> None:
    """First what migrates the database, then what needs it to be migrated."""
    first = [item for item in objects if item["kind"] != "Deployment"]
    for part in (first, objects):
        apply(cluster, part, progress=_silent)
        rollout.wait(cluster, part, progress=_silent, timeout=TIMEOUT)


def _serve(forward: Forward) -> Any:
    thread = threading.Thread(target=forward.run, name="windsock-bench-forward", daemon=True)
    thread.start()

    def stop() -> None:
        forward.close()
        thread.join()

    return stop


def _forward_settings(cluster: Cluster, wanted: Settings) -> ForwardSettings:
    return ForwardSettings(
        context=cluster.context,
        kubeconfig=wanted.cluster.kubeconfig or None,
        namespace=cluster.namespace,
        selector=workloads.selector("api-server"),
        remote_port=8080,
        local_port=0,
    )


# --- the objects ----------------------------------------------------------------------------------


def _objects(cluster: Cluster, wanted: Settings, dags: Mapping[str, str]) -> list[Object]:
    images = image.wanted(wanted)
    rendered = manifests.objects(
        wanted.project,
        overlay="context",
        namespace=cluster.namespace,
        images={
            manifests.AIRFLOW_IMAGE: images.airflow,
            manifests.POSTGRES_IMAGE: images.postgres,
        },
        settings=settings.variables(wanted, base_url=f"http://{LOOPBACK}", dags_folder=DAGS_FOLDER),
    )
    data = manifests.settings_of(rendered)["data"]
    kept = {name: data[name] for name in NEEDED}
    data.clear()
    data.update(kept, **{POD_TEMPLATE_FILE: POD_TEMPLATE}, **_without_bytecode())
    objects = [item for item in rendered if item["metadata"]["name"] not in LEFT_OUT]
    for item in objects:
        _make_plain(item, dags, image=images.airflow)
    return [_dags_object(objects[0], dags), *objects]


def _without_bytecode() -> dict[str, str]:
    return {"PYTHONPYCACHEPREFIX": NO_BYTECODE, "PYTHONDONTWRITEBYTECODE": "1"}


def _dags_object(like: Object, dags: Mapping[str, str]) -> Object:
    metadata = {
        "name": DAGS,
        "namespace": like["metadata"]["namespace"],
        "labels": like["metadata"]["labels"],
    }
    data = {f"{dag_id}.py": source for dag_id, source in dags.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _make_plain(item: Object, dags: Iterable[str], *, image: str) -> None:
    name = item["metadata"]["name"]
    if item["kind"] == "ConfigMap" and name.startswith(manifests.POD_TEMPLATE):
        template = yaml.safe_load(item["data"][manifests.POD_TEMPLATE_KEY])
        for filled_in in ("affinity", "imagePullSecrets"):  # one node, which has the image
            del template["spec"][filled_in]
        template["spec"]["containers"][0]["image"] = image
        del template["spec"]["containers"][0]["command"]
        _mount_dags(template["spec"], dags)
        item["data"][manifests.POD_TEMPLATE_KEY] = yaml.safe_dump(template, sort_keys=False)
    if item["kind"] == "Deployment" and name in ("airflow-scheduler", "airflow-dag-processor"):
        spec = item["spec"]["template"]["spec"]
        [container] = spec["containers"]
        container["args"] = ["airflow", *container["args"]]
        if name == "airflow-dag-processor":
            _mount_dags(spec, dags)
            for probe in ("startupProbe", "readinessProbe"):  # of a socket that it does not open
                del container[probe]


def _mount_dags(spec: dict[str, Any], dags: Iterable[str]) -> None:
    """File by file: Airflow refuses the links of a whole ConfigMap as a loop."""
    for dag_id in dags:
        file = f"{dag_id}.py"
        mount = {"name": DAGS, "mountPath": f"{DAGS_FOLDER}/{file}", "subPath": file}
        spec["containers"][0]["volumeMounts"].append(mount)
    spec["volumes"].append({"name": DAGS, "configMap": {"name": DAGS}})
