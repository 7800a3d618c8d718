"""A cluster that knows one kind of object, as far as a lease needs it."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import pytest

from windsock.cluster.api.client import Cluster
from windsock.cluster.api.failures import CONFLICT, NOT_FOUND, Refusal

Object = dict[str, Any]


class FakeRoom(Cluster):
    """A namespace in memory that refuses as the API server does.

    Args:
        refuses: The code with which each creation is refused; 0 means none.
    """

    namespace = "fake"

    def __init__(self, *, refuses: int = 0) -> None:
        self.creations = 0
        self._refuses = refuses
        self._items: dict[str, Object] = {}
        self._versions = itertools.count(1)
        self._changing = threading.Lock()

    def within(self, seconds: float) -> FakeRoom:  # noqa: ARG002 - it answers at once
        return self

    def get(self, _api_version: str, _kind: str, name: str) -> Object | None:
        return copy.deepcopy(self._items.get(name))

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        assert not dry_run
        with self._changing:
            self.creations += 1
            if self._refuses:
                raise Refusal("may not create leases", "It needs a Role.", code=self._refuses)
            if item["metadata"]["name"] in self._items:
                raise Refusal("there is one", code=CONFLICT)
            made = copy.deepcopy(item)
            made["metadata"] |= {"uid": str(next(self._versions))}
            return self._store(made)

    def patch(self, item: Object, change: Object) -> Object:
        with self._changing:
            found = self._items.get(item["metadata"]["name"])
            if found is None:
                raise Refusal("it is gone", code=NOT_FOUND)
            if change["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise Refusal("it was changed", code=CONFLICT)
            return self._store({**found, "spec": {**found["spec"], **change["spec"]}})

    def delete(self, item: Object, *, unchanged: bool = False) -> bool:
        with self._changing:
            found = self._items.get(item["metadata"]["name"])
            if found is None or (unchanged and found["metadata"] != item["metadata"]):
                return False
            del self._items[item["metadata"]["name"]]
            return True

    def _store(self, item: Object) -> Object:
        version = {"resourceVersion": str(next(self._versions))}
        item = {**item, "metadata": {**item["metadata"], **version}}
        self._items[item["metadata"]["name"]] = item
        return copy.deepcopy(item)


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom()
