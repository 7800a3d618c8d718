"""Which objects a cluster can take: it serves some kinds, and others not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object


def only_served(
    cluster: Cluster, objects: Sequence[Object], *, skip_unserved: bool
) -> tuple[list[Object], list[Object]]:
    """The objects that the cluster serves, and the others.

    Args:
        cluster: Any of its namespaces.
        objects: All that is to be there.
        skip_unserved: Go on without the others.

    Raises:
        EnvironmentFailure: There are others, and one may not go on without them.
    """
    known = cluster.served(item["apiVersion"] for item in objects)
    missing = [item for item in objects if (item["apiVersion"], item["kind"]) not in known]
    if missing and not skip_unserved:  # Kubernetes 1.20 only: the flag, for policy/v1
        named = ", ".join(f"{name_of(item)} ({item['apiVersion']})" for item in missing)
        raise EnvironmentFailure(
            f"the cluster does not serve {named}; nothing was changed",
            "Choose an overlay without it, or go on without it: `--skip-unserved`.",
        )
    return [item for item in objects if item not in missing], missing
