"""Probes that become of another kind, or go: what applying alone cannot do.

Applying removes the fields that we set. What the server filled in besides (a port's scheme, the
seconds between two looks) stays, and is no whole probe, or a second one, by itself.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import FIELD_MANAGER, name_of
from windsock.cluster.api.failures import INVALID

if TYPE_CHECKING:
    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.cluster.api.failures import Refusal

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def may_keep_half_of_one(error: Refusal) -> bool:
    """Whether a workload was perhaps refused for what would stay of a probe."""
    return error.code == INVALID and "Probe" in error.words


def forget(cluster: Cluster, before: Object, *, wanted: Object) -> None:
    """Take all probes out of a workload, so that others can be applied.

    Args:
        cluster: With its namespace.
        before: The workload as it is there.
        wanted: What is to be applied next.

    Raises:
        Refusal: That is wrong whatever there was before; nothing was changed.
    """
    _made_anew(cluster, wanted)
    nothing = dict.fromkeys(_PROBES)
    containers = [{"name": each["name"], **nothing} for each in _containers(before)]
    cluster.request(
        "PATCH",
        cluster.path(before["apiVersion"], before["kind"], before["metadata"]["name"]),
        query={"fieldManager": FIELD_MANAGER},
        body={"spec": {"template": {"spec": {"containers": containers}}}},
        content_type="application/strategic-merge-patch+json",
        doing=f"change the probes of {name_of(before)}",
    )


def would_be(cluster: Cluster, before: Object, *, wanted: Object) -> Object:
    """What a workload would be after `forget` and applying; nothing is changed.

    Args:
        cluster: With its namespace.
        before: The workload as it is there.
        wanted: What would be applied.

    Raises:
        Refusal: As for `forget`.
    """
    made = _made_anew(cluster, wanted)
    after = cluster.apply(_with_probes(wanted, of=before), dry_run=True)
    return _with_probes(after, of=made)


def _made_anew(cluster: Cluster, item: Object) -> Object:
    """What the server would make of an object if there was nothing before."""
    name = f"{item['metadata']['name']}-check"
    return cluster.create({**item, "metadata": {**item["metadata"], "name": name}}, dry_run=True)


def _with_probes(item: Object, *, of: Object) -> Object:
    """A copy whose containers have the probes of those of the same names."""
    copied = copy.deepcopy(item)
    others = {each["name"]: each for each in _containers(of)}
    for container in _containers(copied):
        other = others.get(container["name"])
        if other is not None:
            for name in _PROBES:
                container.pop(name, None)
                if name in other:
                    container[name] = other[name]
    return copied


def _containers(item: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = item["spec"]["template"]["spec"]["containers"]
    return found
