"""Bring a namespace to what is in the manifests.

Objects are applied on the server under our name, with a digest of the manifest as an annotation
(`windsock.dev/applied`). One list of each kind shows what has changed: in the manifest, because the
digest differs, or by somebody else, because the object lacks something that the manifest has.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import name_of
from windsock.cluster.api.failures import Refusal
from windsock.cluster.api.workloads import has_condition, is_going
from windsock.cluster.dev_mode import as_wanted_beside
from windsock.cluster.manifests import probes
from windsock.cluster.manifests.inventory import (
    APPLIED,
    explicit,
    is_ours,
    key_of,
    list_all,
    only_served,
    outdated,
    rank,
    some,
    visible,
)
from windsock.cluster.manifests.removal import delete_and_wait
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.cluster.manifests.inventory import Key


@dataclass(frozen=True, kw_only=True)
class ApplyResult:
    """The objects by what was done with them, each as `Kind name`."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = {
            "created": self.created,
            "changed": self.changed,
            "removed": self.pruned,
            "skipped, not served": self.skipped,
        }
        changes = [f"{len(names)} {word}" for word, names in counts.items() if names]
        return ", ".join(changes) or "nothing changed"


def apply(
    cluster: Cluster,
    objects: Sequence[Object],
    *,
    progress: Callable[[str], None],
    skip_unserved: bool = False,
) -> ApplyResult:
    """Apply all objects in the order they need, then remove those of ours that are no longer there.

    The namespace exists. With `skip_unserved` objects whose kind the cluster does not serve are
    left out.

    Raises:
        ConfigurationError: An object belongs to no namespace, or to another one.
        EnvironmentFailure: A kind is not served (nothing has been applied then), or the cluster
            refused an object.
    """
    wanted, skipped = only_served(cluster, objects, skip_unserved=skip_unserved)
    _check_places(cluster, wanted)
    live = _live(cluster, wanted)
    _check_owner(cluster, live, wanted)
    outcomes: dict[str, list[str]] = {"skipped": [name_of(item) for item in skipped]}
    for item in sorted(wanted, key=rank):
        outcome = _apply_one(cluster, item, before=live.get(key_of(item)), progress=progress)
        outcomes.setdefault(outcome, []).append(name_of(item))
    old = outdated(cluster, {key_of(item) for item in wanted})
    outcomes["pruned"] = [name_of(item) for item in old if cluster.delete(item)]
    return ApplyResult(**{outcome: tuple(names) for outcome, names in outcomes.items()})


def _apply_one(
    cluster: Cluster, item: Object, *, before: Object | None, progress: Callable[[str], None]
) -> str:
    """Apply an object, unless the cluster has it as it should be; returns a field of the result."""
    marked = as_wanted_beside(before, _marked(item))
    if before is not None and (is_going(before) or _must_go_first(before, marked)):
        progress(f"waiting for the old {name_of(item)} to go")
        delete_and_wait(cluster, before)
        before = None
    if before is not None and _covers(before, marked):
        return "unchanged"
    progress(name_of(item))
    try:
        after = cluster.apply(marked)
    except Refusal as error:
        if before is None or not probes.may_keep_half_of_one(error):
            raise
        probes.forget(cluster, before, wanted=marked)
        after = cluster.apply(marked)
    if before is None:
        return "created"
    return "unchanged" if visible(before) == visible(after) else "changed"


def is_applied(cluster: Cluster, item: Object) -> bool:
    """Whether an object in the cluster is what was applied last, of this very content."""
    live = cluster.get(item["apiVersion"], item["kind"], item["metadata"]["name"])
    return live is not None and _digest_of(live) == _digest_of(_marked(item))


def _check_places(cluster: Cluster, objects: Iterable[Object]) -> None:
    for item in objects:
        place = item["metadata"].get("namespace", cluster.namespace)
        if not cluster.namespaced(item["apiVersion"], item["kind"]):
            raise ConfigurationError(
                f"{name_of(item)} belongs to the whole cluster, not to a namespace",
                "windsock applies objects of its namespace only; take it out of kube/.",
            )
        if place != cluster.namespace:
            raise ConfigurationError(
                f"{name_of(item)} is in namespace {place}, the environment in {cluster.namespace}",
                "Take the namespace out of kube/: it is set for all objects.",
            )


def _live(cluster: Cluster, objects: Iterable[Object]) -> dict[Key, Object]:
    """Every object in the namespace of the kinds that occur, ours or not."""
    pairs = {(item["apiVersion"], item["kind"]) for item in objects}
    return {key_of(item): item for item in list_all(cluster, pairs, selector="")[0]}


def _check_owner(cluster: Cluster, live: Mapping[Key, Object], wanted: Iterable[Object]) -> None:
    """Refuse to take over what others made: it may be another team's database."""
    foreign = [
        name_of(item) for item in wanted if key_of(item) in live and not is_ours(live[key_of(item)])
    ]
    if foreign:
        raise EnvironmentFailure(
            f"{some(foreign)} in namespace {cluster.namespace} was not made by windsock; nothing "
            "was applied",
            "Choose another namespace: `windsock.cluster.namespace` in invoke.yaml.",
        )


def _must_go_first(before: Object, wanted: Object) -> bool:
    """Whether this is a Job that failed, or one of another content, which cannot be changed."""
    if before["kind"] != "Job":
        return False
    return has_condition(before, "Failed") or _digest_of(before) != _digest_of(wanted)


def _digest_of(item: Object) -> str | None:
    return (item["metadata"].get("annotations") or {}).get(APPLIED)


def _marked(item: Object) -> Object:
    """The object with the digest of itself in it."""
    text = json.dumps(item, sort_keys=True)
    marked = explicit(item)
    annotations = marked["metadata"].setdefault("annotations", {})
    annotations[APPLIED] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return marked


def _covers(live: Any, wanted: Any) -> bool:
    """Whether a part of a live object has everything that is wanted; it may have more.

    A number that the cluster writes in another way (`0.5` CPU as `500m`) counts as a change: the
    object is applied, which then changes nothing.
    """
    if wanted in (None, "", [], {}):  # the cluster may omit what is empty
        return live in (None, "", [], {})
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            _covers(live.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(_covers(*pair) for pair in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)
