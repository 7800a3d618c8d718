"""A cluster that knows one kind of object, as far as a lease needs it."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import pytest

from windsock.cluster.api.failures import CONFLICT, NOT_FOUND, Refusal

Object = dict[str, Any]


class FakeRoom:
    """A namespace in memory that refuses as the API server does."""

    namespace = "fake"

    def __init__(self) -> None:
        self._items: dict[str, Object] = {}
        self._versions = itertools.count(1)
        self._changing = threading.Lock()

    def within(self, _seconds: float) -> FakeRoom:
        return self

    def get(self, _version: str, _kind: str, name: str) -> Object | None:
        return copy.deepcopy(self._items.get(name))

    def create(self, item: Object) -> Object:
        with self._changing:
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
