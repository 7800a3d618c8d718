"""What `okteto up` and `okteto down` do to a Deployment.

As its source has it (pkg/k8s/apps/translate.go, deployments.go): a clone with all labels and
annotations, another command, variables and volumes of Okteto's; the original is scaled to no pods.
Not played are Syncthing and the SSH server that run in the clone: files are brought there by tar.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.cluster.room import IMAGE, eventually
from windsock.cluster.api.workloads import has_condition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]

KIND = ("apps/v1", "Deployment")
NOT_COPIED = {"status"}
SERVER_SIDE = {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}


@contextmanager
def up(cluster: Cluster, name: str, part: Object) -> Iterator[str]:
    """Put a Deployment into dev mode; the name of the clone, whose pod is ready.

    Args:
        cluster: With the rights of the namespace's user.
        name: Of the Deployment.
        part: Of `dev` in the manifest.
    """
    original = _get(cluster, name)
    made = clone(original, part)
    original["metadata"]["labels"]["dev.okteto.com"] = "true"
    original["metadata"]["annotations"]["dev.okteto.com/replicas"] = "1"
    original["spec"]["replicas"] = 0
    _put(cluster, original)
    cluster.create(made)
    try:
        title = made["metadata"]["name"]
        eventually(lambda: has_condition(_get(cluster, title), "Available"), "the shell's pod")
        # Both Deployments select the same labels: `kubectl exec` could meet the pod that goes.
        eventually(lambda: _pods(cluster, made) == [name], "the original's pod has gone")
        yield title
    finally:
        cluster.delete(made)
        original = _get(cluster, name)
        del original["metadata"]["labels"]["dev.okteto.com"]
        del original["metadata"]["annotations"]["dev.okteto.com/replicas"]
        original["spec"]["replicas"] = 1
        _put(cluster, original)


def clone(original: Object, part: Object) -> Object:
    """The Deployment that takes another one's place."""
    made = copy.deepcopy({key: value for key, value in original.items() if key not in NOT_COPIED})
    metadata = made["metadata"]
    metadata["labels"] = {"dev.okteto.com/clone": metadata["uid"], **metadata["labels"]}
    for key in SERVER_SIDE & metadata.keys():
        del metadata[key]
    name = metadata["name"]
    metadata["name"] = f"{name}-okteto"
    made["spec"] |= {"replicas": 1, "strategy": {"type": "Recreate"}}
    template = made["spec"]["template"]
    template["metadata"]["labels"]["interactive.dev.okteto.com"] = name
    pod = template["spec"]
    pod["terminationGracePeriodSeconds"] = 0
    user = {key: value for key, value in part["securityContext"].items() if key != "fsGroup"}
    pod["securityContext"]["fsGroup"] = part["securityContext"]["fsGroup"]
    assert not part["persistentVolume"]["enabled"], "with one Okteto mounts the synced folders"
    volumes = {"okteto-bin": "/var/okteto/bin", f"{name}-okteto": "/var/syncthing"}
    pod["volumes"] += [{"name": volume, "emptyDir": {}} for volume in volumes]
    [container] = pod["containers"]
    container |= {"command": ["sleep"], "args": ["infinity"], "workingDir": part["workdir"]}
    container["securityContext"] |= user
    container["volumeMounts"] += [
        {"name": volume, "mountPath": path} for volume, path in volumes.items()
    ]
    given = part["environment"]
    container["env"] = [
        *(item for item in container["env"] if item["name"] not in given),
        *({"name": key, "value": value} for key, value in given.items()),
    ]
    pod["initContainers"] = [
        {
            "name": "okteto-bin",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "cp /usr/bin/env /okteto/bin"],
            "volumeMounts": [{"name": "okteto-bin", "mountPath": "/okteto/bin"}],
            "resources": part["initContainer"]["resources"],
            "securityContext": user,
        }
    ]
    return made


def _get(cluster: Cluster, name: str) -> Object:
    found = cluster.get(*KIND, name)
    assert found is not None
    return found


def _pods(cluster: Cluster, item: Object) -> list[str]:
    """Whose place the pods take that a Deployment selects; empty for its own."""
    wanted = item["spec"]["selector"]["matchLabels"].items()
    labels = [pod["metadata"].get("labels", {}) for pod in cluster.items("v1", "Pod")]
    return [each.get("interactive.dev.okteto.com", "") for each in labels if wanted <= each.items()]


def _put(cluster: Cluster, item: Object) -> None:
    del item["metadata"]["resourceVersion"]  # Whatever its controller has written meanwhile.
    path = cluster.path(*KIND, item["metadata"]["name"])
    cluster.request("PUT", path, body=item, doing="replace it")
