"""Okteto's dev mode: `okteto up` lets a copy of a Deployment take its place, for a shell.

The copy is named `…-okteto`, has all labels of the original, ours included, and no owner. The
original is scaled to no pods meanwhile. `okteto down` undoes both. A deploy into the same namespace
must not touch them: somebody works in the copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.cluster.api.connection import Object

DEV = "dev.okteto.com"
"""Label of the original: its place is taken."""
CLONE = "dev.okteto.com/clone"
"""Label of the copy: the uid of the original."""


def is_clone(item: Object) -> bool:
    """Whether this is the copy of another object."""
    return CLONE in _labels(item)


def is_replaced(item: Object) -> bool:
    """Whether a copy has taken the place of this object."""
    return _labels(item).get(DEV) == "true" and not is_clone(item)


def as_wanted_beside(live: Object | None, wanted: Object) -> Object:
    """What may be applied: of an object that a copy replaces, all but its number of pods.

    A changed template is applied: `okteto up` sees it, and replaces its copy.

    Args:
        live: The object on the cluster.
        wanted: The object of the manifest.
    """
    if live is None or not is_replaced(live) or "spec" not in wanted:
        return wanted
    spec = {key: value for key, value in wanted["spec"].items() if key != "replicas"}
    return {**wanted, "spec": spec}


def _labels(item: Object) -> dict[str, str]:
    return item["metadata"].get("labels") or {}
