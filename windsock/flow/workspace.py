"""The project that a command works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from windsock.model import Environment
from windsock.targets import choose

if TYPE_CHECKING:
    from typing import Self

    from windsock.airflow.api import Airflow
    from windsock.config import Settings
    from windsock.targets.base import Checker, Operations, Target
    from windsock.terminal.console import Console


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What every flow works on."""

    settings: Settings
    console: Console

    def target(self, *, read_only: bool = False) -> Target:
        """The target that the settings name; one that is `read_only` only plans."""
        return choose.target(self.settings, read_only=read_only)

    def operations(self) -> Operations:
        """What can be done with the environment."""
        return choose.operations(self.settings)

    def once_ours(self) -> Self:
        """The same, for all that follows the first step: a take-over is meant for that one."""
        cluster = replace(self.settings.cluster, take_over=False)
        return replace(self, settings=replace(self.settings, cluster=cluster))

    def checker(self) -> Checker:
        """Where DAGs are imported without a running Airflow."""
        return choose.checker(self.settings)

    def environment(self) -> Environment:
        """The environment that is up.

        Raises:
            EnvironmentFailure: None is.
        """
        return Environment.load(self.settings.state_folder)


def airflow_client(environment: Environment) -> Airflow:
    """A client of the environment's REST API."""
    from windsock.airflow.api import Airflow  # noqa: PLC0415 - httpx only where it is used

    return Airflow.of(environment)
