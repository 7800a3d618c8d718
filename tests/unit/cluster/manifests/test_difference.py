"""A comparison looks twice; what a controller changes in between is no difference."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from windsock.cluster.manifests.difference import ATTEMPTS, diff

WANTED = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "dags"},
    "spec": {"storageClassName": "standard"},
}


class Busy:
    """A cluster whose controllers change the object after each of the first looks at it."""

    namespace = "mine"

    def __init__(self, *, changes: int) -> None:
        self._changes = changes
        self._live: dict[str, Any] = copy.deepcopy(WANTED)
        self._live["metadata"]["resourceVersion"] = "1"

    def served(self, _: object) -> set[tuple[str, str]]:
        return {("v1", "PersistentVolumeClaim")}

    def items(self, *_: str, selector: str) -> list[dict[str, Any]]:
        del selector
        return []

    def get(self, *_: str) -> dict[str, Any]:
        seen = copy.deepcopy(self._live)
        if self._changes:
            self._changes -= 1
            self._live["spec"]["volumeName"] = f"pv-{self._changes}"
            self._live["metadata"]["resourceVersion"] += "1"
        return seen

    def apply(self, item: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        assert dry_run
        assert item["spec"] == WANTED["spec"]
        return copy.deepcopy(self._live)


@pytest.mark.parametrize("changes", range(ATTEMPTS))
def test_what_a_controller_changes_meanwhile_is_no_difference(changes: int) -> None:
    cluster: Any = Busy(changes=changes)
    assert diff(cluster, [WANTED]) == []


def test_one_that_never_rests_is_shown_as_it_was_last_seen() -> None:
    cluster: Any = Busy(changes=1000)
    [(name, text)] = diff(cluster, [WANTED])
    assert name == "PersistentVolumeClaim dags"
    assert "volumeName" in text
