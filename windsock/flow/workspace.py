"""The project that a command works on."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from windsock.local.variables import project_variables
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.targets import choose, settings_record
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

    def as_it_is_up(self) -> Self:
        """With the settings that the environment was brought up with, if it is up."""
        up = settings_record.load(self.settings) if self.was_up else None
        return self if up is None else dataclasses.replace(self, settings=up)

    def with_dags_of_what_is_up(self) -> Self:
        """With the folders of the environment that runs, which is said if they are other ones."""
        up = self.as_it_is_up()
        if up.settings.dags_folder.resolve() == self.settings.dags_folder.resolve():
            return self
        if not self.runs():
            return self
        self.console.line(f"DAGs in {up.settings.dags_folder}: the environment is up with these")
        return up

    @property
    def was_up(self) -> bool:
        """Whether the environment is up, or was when this machine went down."""
        return (self.settings.state_folder / ENVIRONMENT_FILE).exists()

    def differences(self) -> list[str]:
        """The settings with which something runs that are other ones now, in words."""
        up = self.as_it_is_up().settings
        found = [] if up is self.settings else settings_record.differences(up, self.settings)
        return found if found and self.runs() else []

    def variables(self) -> dict[str, str]:
        """What Airflow gets from `.env` and from this shell.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        return project_variables(self.settings.path(self.settings.env_file), os.environ)

    def changed_variables(self) -> list[str]:
        """The names of the variables with which something runs that are other ones now."""
        if not self.was_up:
            return []
        found = settings_record.changed_variables(self.settings, self.variables())
        return found if found and self.runs() else []

    def runs(self, *, whole: bool = False) -> bool:
        """Whether a component of the environment runs; with `whole`, whether all of them do."""
        components = self.operations().status(health=False)
        running = [item.state in {"running", "starting"} for item in components]
        return bool(running) and (all(running) if whole else any(running))

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
