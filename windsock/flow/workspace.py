"""The project that a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.model import Environment
from windsock.targets import choose
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from windsock.airflow.api import Airflow
    from windsock.config import Settings
    from windsock.targets.base import Checker, Operations, Target
    from windsock.terminal.console import Console


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What every flow works on."""

    settings: Settings
    console: Console

    def target(self) -> Target:
        """The target that the settings name."""
        return choose.target(self.settings)

    def operations(self) -> Operations:
        """What can be done with the environment."""
        return choose.operations(self.settings)

    def checker(self) -> Checker:
        """Where DAGs are imported without a running Airflow."""
        return choose.checker(self.settings)

    def environment(self) -> Environment:
        """The environment that is up.

        Raises:
            EnvironmentFailure: None is.
        """
        return Environment.load(self.settings.state_folder)

    def places(self, environment: Environment | None = None) -> Places:
        """Where the author's files are: of an environment that is up, else of the settings."""
        if environment is not None:
            return Places(environment.dags_folder, environment.further)
        further = {name: str(folder) for name, folder in self.settings.further_folders.items()}
        return Places(str(self.settings.dags_folder.resolve()), further)


def airflow_client(environment: Environment) -> Airflow:
    """A client of the environment's REST API."""
    from windsock.airflow.api import Airflow  # noqa: PLC0415 - httpx only where it is used

    return Airflow.of(environment)
