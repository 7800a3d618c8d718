"""The objects of a fake API server: kept, merged and refused as Kubernetes does, where it matters.

What is not here: quotas, admission, and controllers. A test plays those by `put` and `remove`.
"""

from __future__ import annotations

import copy
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]
Place = tuple[str, str]
"""Namespace (empty where a kind has none) and name."""

BIRTHDAY = "2026-01-01T00:00:00Z"
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "httpGet", "tcpSocket")


class Refused(Exception):
    """The server says no.

    Args:
        code: The HTTP status.
        message: Its words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Kind:
    """A kind that is served."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True


@dataclass(frozen=True)
class Change:
    """Something that happened to an object, as a watch tells it."""

    version: int
    type: str
    kind: Kind
    namespace: str
    item: Object


class Store:
    """All objects. Safe in threads.

    Attributes:
        changed: Notified when there is more in `changes`, or a watch is to end.
        changes: Everything that ever happened.
        oldest: The first version from which a watch may go on.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.changes: list[Change] = []
        self.oldest = 0
        self._numbers = itertools.count(1)
        self._objects: dict[tuple[Kind, Place], Object] = {}
        self._applied: dict[tuple[Kind, Place], Object] = {}
        self._version = 0

    # --- reading ------------------------------------------------------------------------------

    def get(self, kind: Kind, place: Place) -> Object:
        with self.changed:
            return copy.deepcopy(self._there(kind, place))

    def find(self, kind: Kind, place: Place) -> Object | None:
        with self.changed:
            return copy.deepcopy(self._objects.get((kind, place)))

    def listing(self, kind: Kind, namespace: str, selector: str) -> tuple[list[Object], int]:
        with self.changed:
            found = [
                copy.deepcopy(item)
                for (other, (where, _)), item in self._objects.items()
                if (other, where) == (kind, namespace) and matches(item, selector)
            ]
            return found, self._version

    def all(self) -> list[Object]:
        with self.changed:
            return copy.deepcopy(list(self._objects.values()))

    # --- writing, as a client does --------------------------------------------------------------

    def create(self, kind: Kind, place: Place, item: Object, *, dry_run: bool) -> Object:
        with self.changed:
            if (kind, place) in self._objects:
                raise Refused(409, f'{kind.plural} "{place[1]}" already exists')
            self._check_namespace(kind, place)
            return self._write(kind, place, self._new(item), "ADDED", dry_run=dry_run)

    def apply(self, kind: Kind, place: Place, item: Object, *, dry_run: bool) -> Object:
        """Server-side apply by the one manager that there is, who always wins."""
        with self.changed:
            before = self._objects.get((kind, place))
            if before is None:
                self._check_namespace(kind, place)
                after = self._write(kind, place, self._new(item), "ADDED", dry_run=dry_run)
            else:
                merged = copy.deepcopy(before)
                owned = self._applied.get((kind, place), {})
                _take_out(merged, owned, item)
                merge(merged, item)
                after = self._change(kind, place, merged, dry_run=dry_run)
            if not dry_run:
                self._applied[kind, place] = copy.deepcopy(item)
            return after

    def patch(self, kind: Kind, place: Place, change: Object, *, dry_run: bool = False) -> Object:
        """Merge a change; a null takes a field out. Containers are told apart by their names."""
        with self.changed:
            before = self._there(kind, place)
            wanted = change.get("metadata", {}).get("resourceVersion")
            if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
                raise Refused(409, f'the object "{place[1]}" has been modified')
            merged = copy.deepcopy(before)
            merge(merged, change)
            return self._change(kind, place, merged, dry_run=dry_run)

    def delete(self, kind: Kind, place: Place, preconditions: Object) -> None:
        with self.changed:
            item = self._there(kind, place)
            for name, value in preconditions.items():
                if item["metadata"][name] != value:
                    raise Refused(409, f"the {name} is {item['metadata'][name]}, not {value}")
            if item["metadata"].get("finalizers"):
                going = {**item, "metadata": {**item["metadata"], "deletionTimestamp": BIRTHDAY}}
                self._write(kind, place, going, "MODIFIED", dry_run=False)
                return
            self._forget(kind, place)

    # --- writing, as a controller does ----------------------------------------------------------

    def put(self, kind: Kind, place: Place, item: Object) -> Object:
        """Write an object whole, whatever there was before; all but its identity."""
        with self.changed:
            before = self._objects.get((kind, place))
            whole = self._new(item)
            if before is not None:
                whole["metadata"]["uid"] = before["metadata"]["uid"]
            change = "ADDED" if before is None else "MODIFIED"
            return self._write(kind, place, whole, change, dry_run=False)

    def remove(self, kind: Kind, place: Place) -> None:
        """Take an object away, finalizers or not."""
        with self.changed:
            self._forget(kind, place)

    def compact(self) -> None:
        """Forget what happened: no watch can go on from a version of before."""
        with self.changed:
            self._version = next(self._numbers)
            self.oldest = self._version

    # --- inside ---------------------------------------------------------------------------------

    def _there(self, kind: Kind, place: Place) -> Object:
        found = self._objects.get((kind, place))
        if found is None:
            raise Refused(404, f'{kind.plural} "{place[1]}" not found')
        return found

    def _check_namespace(self, kind: Kind, place: Place) -> None:
        names = {name for (other, (_, name)) in self._objects if other.kind == "Namespace"}
        if kind.namespaced and place[0] not in names:
            raise Refused(404, f'namespaces "{place[0]}" not found')

    def _new(self, item: Object) -> Object:
        fresh = {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": BIRTHDAY}
        made = copy.deepcopy(item)
        made["metadata"] = {**fresh, **made["metadata"]}
        if item["kind"] == "Namespace":
            made.setdefault("status", {"phase": "Active"})
        return made

    def _change(self, kind: Kind, place: Place, merged: Object, *, dry_run: bool) -> Object:
        """Keep what came of a merge; the version stays where nothing changed."""
        _fill_in(merged)
        if merged == self._objects[kind, place]:
            return copy.deepcopy(merged)
        return self._write(kind, place, merged, "MODIFIED", dry_run=dry_run)

    def _write(
        self, kind: Kind, place: Place, item: Object, change: str, *, dry_run: bool
    ) -> Object:
        _fill_in(item)
        _check_probes(item)
        if not dry_run:
            self._version = next(self._numbers)
            item["metadata"]["resourceVersion"] = str(self._version)
            self._objects[kind, place] = item
            self._tell(change, kind, place, item)
        else:
            item["metadata"].setdefault("resourceVersion", "")
        return copy.deepcopy(item)

    def _forget(self, kind: Kind, place: Place) -> None:
        item = self._objects.pop((kind, place))
        self._applied.pop((kind, place), None)
        self._version = next(self._numbers)
        self._tell("DELETED", kind, place, item)
        for other, where in list(self._objects):
            owners = self._objects[other, where]["metadata"].get("ownerReferences") or []
            of_it = any(owner["uid"] == item["metadata"]["uid"] for owner in owners)
            within = kind.kind == "Namespace" and where[0] == place[1]
            if (of_it or within) and (other, where) in self._objects:
                self._forget(other, where)

    def _tell(self, change: str, kind: Kind, place: Place, item: Object) -> None:
        told = Change(self._version, change, kind, place[0], copy.deepcopy(item))
        self.changes.append(told)
        self.changed.notify_all()


def matches(item: Object, selector: str) -> bool:
    """Whether an object fits a selector, of which only `a=b,c!=d` is known."""
    labels = item["metadata"].get("labels") or {}
    wanted = [pair.split("=", 1) for pair in selector.split(",") if pair]
    return all(
        labels.get(name.removesuffix("!")) != value
        if name.endswith("!")
        else labels.get(name) == value
        for name, value in wanted
    )


def merge(into: Object, change: Object) -> None:
    """Lay a change over an object."""
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif key == "containers" and isinstance(into.get(key), list):
            _merge_containers(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _take_out(item: Object, owned: Object, kept: Object) -> None:
    """Take the fields out that were applied before and no longer are; not what was filled in."""
    for key, value in owned.items():
        if key == "containers" and key in kept and key in item:
            there = {each["name"]: each for each in item[key]}
            now = {each["name"]: each for each in kept[key]}
            for each in value:
                _take_out(there[each["name"]], each, now[each["name"]])
        elif isinstance(value, dict) and isinstance(item.get(key), dict):
            _take_out(item[key], value, kept.get(key) or {})
            if not item[key]:
                del item[key]
        elif key not in kept:
            item.pop(key, None)


def _merge_containers(into: list[Object], change: list[Object]) -> None:
    there = {each["name"]: each for each in into}
    for each in change:
        if each["name"] in there:
            merge(there[each["name"]], each)
        else:
            into.append(copy.deepcopy(each))


def _containers(item: Object) -> Iterator[Object]:
    pod = ((item.get("spec") or {}).get("template") or {}).get("spec") or {}
    yield from pod.get("containers") or []


def _fill_in(item: Object) -> None:
    """What Kubernetes adds to a probe, which stays when the probe is taken out."""
    for container in _containers(item):
        for probe in (container[name] for name in PROBES if name in container):
            probe.setdefault("periodSeconds", 10)
            if "httpGet" in probe:
                probe["httpGet"].setdefault("scheme", "HTTP")


def _check_probes(item: Object) -> None:
    for container in _containers(item):
        for name in PROBES:
            probe = container.get(name)
            if probe is None:
                continue
            handlers = [handler for handler in HANDLERS if handler in probe]
            at = f"spec.template.spec.containers[0].{name}"
            if len(handlers) != 1:
                raise Refused(422, f"{at}: must specify exactly one handler type: {handlers}")
            if "port" in probe[handlers[0]] and not probe[handlers[0]]["port"]:
                raise Refused(422, f"{at}.port: Invalid value: 0")
            if "httpGet" in probe and "port" not in probe["httpGet"]:
                raise Refused(422, f"{at}.httpGet.port: Required value")
