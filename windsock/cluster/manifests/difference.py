"""What applying would change: the server applies objects as a dry run, and we compare."""

from __future__ import annotations

import difflib
import hashlib
import secrets
from typing import TYPE_CHECKING

import yaml

from windsock.cluster.api.client import name_of
from windsock.cluster.api.failures import INVALID, NOT_FOUND, Refusal
from windsock.cluster.dev_mode import as_wanted_beside
from windsock.cluster.manifests import probes
from windsock.cluster.manifests.inventory import (
    explicit,
    key_of,
    only_served,
    outdated,
    rank,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

ATTEMPTS = 5
"""How often a controller may change an object between our two looks at it."""
_KEY = secrets.token_bytes(16)


def diff(
    cluster: Cluster, objects: Sequence[Object], *, skip_unserved: bool = False
) -> list[tuple[str, str]]:
    """What applying would change, object by object; nothing is changed.

    The namespace may not exist yet. With `skip_unserved` objects whose kind the cluster does not
    serve are left out.

    Returns:
        `Kind name` and a unified diff, of each object that would be created, changed or removed.

    Raises:
        EnvironmentFailure: The cluster would refuse an object, or does not serve its kind.
    """
    found: list[tuple[str, str]] = []
    served, _ = only_served(cluster, objects, skip_unserved=skip_unserved)
    wanted = sorted(served, key=rank)
    for item in wanted:
        text = _unified(name_of(item), *_before_and_after(cluster, item))
        if text:
            found.append((name_of(item), text))
    keys = {key_of(item) for item in wanted}
    return found + [
        (name_of(item), _unified(name_of(item), item, None)) for item in outdated(cluster, keys)
    ]


def _before_and_after(cluster: Cluster, item: Object) -> tuple[Object | None, Object]:
    """The object in the cluster, and what applying would make of exactly this state."""
    for _ in range(ATTEMPTS):
        live = cluster.get(item["apiVersion"], item["kind"], item["metadata"]["name"])
        wanted = as_wanted_beside(live, item)
        after = _would_be(cluster, wanted, live)
        if live is None or after is wanted:
            break
        if after["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            break
    return live, after


def _would_be(cluster: Cluster, item: Object, live: Object | None) -> Object:
    wanted = explicit(item)
    try:
        return cluster.apply(wanted, dry_run=True)
    except Refusal as error:
        if error.code == NOT_FOUND:  # The namespace is not there yet.
            return item
        if error.code == INVALID and item["kind"] == "Job":  # `apply` deletes the old Job first.
            return item
        if live is not None and probes.may_keep_half_of_one(error):
            return probes.would_be(cluster, live, wanted=wanted)
        raise


def _unified(name: str, before: Object | None, after: Object | None) -> str:
    names = f"{name} (cluster)", f"{name} (kube/)"
    return "".join(difflib.unified_diff(_lines(before), _lines(after), *names))


def _lines(item: Object | None) -> list[str]:
    if item is None:
        return []
    shown = visible(item)
    for part in ("data", "stringData"):
        if item["kind"] == "Secret" and shown.get(part):
            shown[part] = {key: _masked(value) for key, value in shown[part].items()}
    return yaml.safe_dump(shown, sort_keys=True, allow_unicode=True).splitlines(keepends=True)


def _masked(value: str) -> str:
    """A text that is equal for equal values: a change shows, and nothing else."""
    return f"(not shown, {hashlib.blake2b(value.encode(), key=_KEY, digest_size=3).hexdigest()})"
