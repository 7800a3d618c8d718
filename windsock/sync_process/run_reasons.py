"""Why runs wait, and what ended their pods: by Airflow, and by what the sync process knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from windsock.airflow.waiting import Reason, reasons
from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Collection

    from windsock.airflow.api import Airflow
    from windsock.model import TaskPod

NEEDED = ("scheduler", "api-server")
"""The components without which no run goes on."""
FAILING = "failing"
"""The code of the reason that one of them ends again and again."""
TRIGGERER = "triggerer"
DEFERRED, TRIGGERER_FAILING = "deferred", "triggerer-failing"
"""The codes of the reasons that tasks wait for it, and that it ends again and again."""


class Control(Protocol):
    """What is asked of the sync process; see `ControlClient`."""

    def status(self) -> dict[str, Any]:
        """Its state."""

    def waiting_pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        """The queued tasks of a run whose pods have not started."""

    def failed_pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        """What ended the pods of a run's tasks that failed."""


class RunReasons:
    """Says why runs of an environment have not ended, and what ended their pods.

    Args:
        airflow: Where they run.
        control: Asks the sync process; None if there is none.
        parallelism: How many task instances run at once; 0 if that is not known.
    """

    def __init__(
        self, airflow: Airflow, control: Control | None = None, *, parallelism: int = 0
    ) -> None:
        self._airflow = airflow
        self._control = control
        self._parallelism = parallelism

    def reasons(self, dag_id: str, run_id: str) -> list[Reason]:
        """Why a run has not ended yet; empty if it has.

        Raises:
            WindsockError: Airflow does not say.
        """
        found = reasons(
            self._airflow, dag_id, run_id, parallelism=self._parallelism, pods=self._pods
        )
        if any(reason.code == DEFERRED for reason in found):
            return [*self._ending((TRIGGERER,), code=TRIGGERER_FAILING), *found]
        return found

    def failing(self) -> list[Reason]:
        """The components that end again and again, and without which no run goes on."""
        return self._ending(NEEDED, code=FAILING)

    def _ending(self, components: Collection[str], *, code: str) -> list[Reason]:
        """Those of some components that end again and again."""
        try:
            troubles = self._control.status()["troubles"] if self._control else []
        except WindsockError:  # That says nothing about the runs.
            return []
        return [
            Reason(code=code, message=each["message"], hint=each["hint"])
            for each in troubles
            if each["type"] == "component-failing" and each["component"] in components
        ]

    def failed_pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        """What ended the pods of a run's tasks, as far as that is known."""
        try:
            return self._control.failed_pods(dag_id, run_id) if self._control else []
        except WindsockError:  # Airflow's own logs are left.
            return []

    def _pods(self, dag_id: str, run_id: str) -> list[TaskPod]:
        try:
            return self._control.waiting_pods(dag_id, run_id) if self._control else []
        except WindsockError:  # Airflow's own reasons are left.
            return []
