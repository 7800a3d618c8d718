"""What the tests of DAG tests have in place of a sync process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.model import ParsedSnapshot, TaskPod

if TYPE_CHECKING:
    from tests.unit.airflow.fake_airflow import FakeAirflow


class FakeControl:
    """A sync process that has parsed the fake's DAGs, unpauses at once, and notes what it did."""

    def __init__(self, fake: FakeAirflow, used: dict[str, list[str]] | None = None) -> None:
        self._fake = fake
        self._used = used or {}
        self.barriers: list[float] = []
        self.holds: list[tuple[str, str]] = []
        self.troubles: list[dict[str, Any]] = []
        self.pods: list[TaskPod] = []
        self.problems: dict[str, str] = {}

    def used(self) -> dict[str, list[str]]:
        return self._used

    def barrier(self, *, timeout: float) -> ParsedSnapshot:
        self.barriers.append(timeout)
        known = tuple(sorted(self._fake.dags))
        errors = dict(self._fake.import_errors)
        return ParsedSnapshot(snapshot="tree", errors=errors, dags=known, problems=self.problems)

    def status(self) -> dict[str, Any]:
        return {"troubles": self.troubles}

    def waiting_pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        assert dag_id in self._fake.dags
        assert run_id
        return self.pods

    def failed_pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        return self.waiting_pods(dag_id, run_id)

    def hold(self, dag_id: str, *, run_id: str = "", owner: str = "") -> bool:
        self.holds.append((dag_id, run_id or owner))
        self._fake.dags[dag_id].paused = False
        return True

    def release(self, dag_id: str, owner: str) -> None:
        self.holds.remove((dag_id, owner))
