from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from windsock.runtime.asset_events import without_deleted

if TYPE_CHECKING:
    from collections.abc import Collection

    from windsock.runtime.asset_events import RunKey


def event(run_id: str | None, dag_id: str | None = "producer") -> SimpleNamespace:
    return SimpleNamespace(source_dag_id=dag_id, source_run_id=run_id)


NOW = event("windsock__test_now__1")
BEFORE = event("windsock__test_before__1")
BY_HAND = event("manual__1")
BY_API = event(None, None)


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([BEFORE, NOW], [NOW]),
        ([BY_HAND, BEFORE, BY_API, NOW], [BY_HAND, BY_API, NOW]),
        ([BEFORE], [BEFORE]),
        ([BEFORE, BEFORE], [BEFORE, BEFORE]),
        ([NOW, NOW], [NOW, NOW]),
        ([BY_HAND, BY_API], [BY_HAND, BY_API]),
        ([], []),
    ],
)
def test_the_events_of_deleted_runs_of_tests_go_unless_none_would_be_left(
    events: list[SimpleNamespace], left: list[SimpleNamespace]
) -> None:
    def existing(keys: Collection[RunKey]) -> set[RunKey]:
        return {("producer", "windsock__test_now__1")} & set(keys)

    assert without_deleted(events, existing) == left
