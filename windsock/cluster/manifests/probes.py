"""Probes that become of another kind, or go: applying alone cannot do that.

Applying removes the fields that we set. The fields that the server added (a port's scheme, the
seconds between two probes) stay, and are an incomplete probe, or a second one.
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
    """Whether a workload was perhaps refused because a part of a probe would stay."""
    return error.code == INVALID and "Probe" in error.words


def forget(cluster: Cluster, before: Object, *, wanted: Object) -> None:
    """Take all probes out of a live workload, so that others can be applied.

    Raises:
        Refusal: `wanted` would be refused without `before`, too; nothing was changed.
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

    Raises:
        Refusal: As for `forget`.
    """
    made = _made_anew(cluster, wanted)
    after = cluster.apply(_with_probes(wanted, of=before), dry_run=True)
    return _with_probes(after, of=made)


def _made_anew(cluster: Cluster, item: Object) -> Object:
    """What the server would make of an object if it was new."""
    name = f"{item['metadata']['name']}-check"
    return cluster.create({**item, "metadata": {**item["metadata"], "name": name}}, dry_run=True)


def _with_probes(item: Object, *, of: Object) -> Object:
    """A copy whose containers have the probes of the containers of another workload."""
    copied = copy.deepcopy(item)
    others = {each["name"]: each for each in _containers(of)}
    for container in _containers(copied):
        if other := others.get(container["name"]):
            for name in _PROBES:
                container.pop(name, None)
            container |= {name: other[name] for name in _PROBES if name in other}
    return copied


def _containers(item: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = item["spec"]["template"]["spec"]["containers"]
    return found
