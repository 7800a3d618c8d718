"""The parts of an environment on this machine, each made when it is first needed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from windsock.airflow.health import (
    AIRFLOW,
    ASK_SECONDS,
    airflow_health,
    is_healthy,
    wait_until_healthy,
    warm_up,
)
from windsock.errors import EnvironmentFailure
from windsock.files import private_folder
from windsock.local import ports
from windsock.local.components import (
    DAG_PROCESSOR_SOCKET,
    PORTS,
    airflow_programs,
    airflow_variables,
    runtime_folder,
)
from windsock.local.orphans import carries_mark, mark
from windsock.local.postgres import Postgres
from windsock.local.venv import Venv, VenvRecipe
from windsock.sync_process.control import ControlClient
from windsock.targets.location import Location
from windsock.targets.this_machine import ThisMachine, sync_says

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from windsock.local.programs import Program
    from windsock.model import Environment
    from windsock.terminal.console import Console

ALL = ("postgres", *AIRFLOW, "sync")
LOCATION = Location(target="local")
VENV = "Airflow's venv"


@dataclass(kw_only=True)
class LocalParts(ThisMachine):
    """The parts of one environment.

    Attributes:
        venv: Airflow's venv, once it is found or built.
    """

    location: Location = LOCATION
    venv: Venv | None = field(default=None, init=False)

    @cached_property
    def recipe(self) -> VenvRecipe:
        """What Airflow's venv is made of."""
        # The mark: a build that a killed `up` left behind is ended with the rest.
        variables = {**self.variables, **mark(self.layout.state)}
        return VenvRecipe.of(self.settings, self.layout.venvs, environment=variables)

    def find_venv(self) -> Venv | None:
        """The venv of the requirements, as they are when it is first found."""
        self.venv = self.venv or self.recipe.find()
        return self.venv

    def ready_venv(self) -> Venv:
        """The venv.

        Raises:
            EnvironmentFailure: It is not built yet.
        """
        if found := self.find_venv():
            return found
        raise EnvironmentFailure("Airflow is not installed here yet", "Run `invoke up` first.")

    def build_venv(self, console: Console) -> None:
        """Build the venv if its requirements changed."""
        with console.step(VENV) as step:
            self.venv = self.recipe.ensure(step.progress)
            step.detail = "installed" if self.venv.created else "unchanged"
        private_folder(self.layout.home)

    @property
    def scripts(self) -> Path | None:
        """The programs of the venv, if there is one."""
        return self.venv.scripts if self.venv else None

    @cached_property
    def ports(self) -> Mapping[str, ports.PortChoice]:
        """The ports of the API, of PostgreSQL and of the scheduler's health."""
        return ports.choose(
            {"api": self.settings.local.port, **PORTS},
            memory=self.layout.ports,
            ours=lambda pid: carries_mark(pid, self.layout.state),
        )

    @cached_property
    def postgres(self) -> Postgres:
        """The PostgreSQL."""
        return Postgres(
            self.layout.database, port=self.ports["postgres"].port, secrets=self.secrets
        )

    @cached_property
    def runtime(self) -> Path:
        """Where `ensure_runtime` puts the copy of `windsock.runtime` for Airflow's processes."""
        return runtime_folder(self.layout)

    @cached_property
    def airflow_variables(self) -> dict[str, str]:
        """The variables of Airflow's processes."""
        return {**self.project_variables, **self.own_variables}

    @cached_property
    def own_variables(self) -> dict[str, str]:
        """The variables that windsock sets for Airflow's processes."""
        return airflow_variables(
            self.settings,
            self.layout,
            secrets=self.secrets,
            postgres=self.postgres,
            ports=self.ports,
            runtime=self.runtime,
        )

    def programs(self) -> list[Program]:
        """All processes, for the supervisor."""
        return [
            self.postgres.program(),
            *airflow_programs(self.layout, self.ready_venv(), self.airflow_variables),
            self.sync_program(
                store=str(self.layout.store),
                processor_socket=str(self.layout.socket(DAG_PROCESSOR_SOCKET)),
            ),
        ]

    def wait_database(self) -> None:
        """Wait until PostgreSQL, which is started, answers."""
        self.postgres.wait_ready(
            seconds=self.settings.up_timeout, check=lambda: self.supervisor.check("postgres")
        )

    def health(self, environment: Environment, *, seconds: float) -> dict[str, bool]:
        """Component → whether Airflow's health endpoint calls it healthy, or the sync answers.

        Args:
            environment: Which is up.
            seconds: Until the endpoint must have answered.
        """
        health = airflow_health(self.loopback, environment.url, seconds=seconds)
        states = self.supervisor.states()
        healthy = {
            name: name in states
            and is_healthy(health.get(name) or {}, name, since=states[name].since)
            for name in AIRFLOW
        }
        return {**healthy, "sync": ControlClient(environment.control_socket).answers()}

    def wait_healthy(
        self, names: Sequence[str], environment: Environment, progress: Callable[[str], None]
    ) -> None:
        """Wait until these components of Airflow, or the sync, are healthy.

        Raises:
            EnvironmentFailure: One has ended.
            DeadlineExceeded: It takes too long.
        """
        warmed = False

        def unhealthy() -> list[str]:
            nonlocal warmed
            self._check(names, environment)
            health = self.health(environment, seconds=ASK_SECONDS)
            if health["api-server"] and not warmed:
                # In a thread: it takes a second or two, while the others still start.
                threading.Thread(
                    target=warm_up, args=(self.loopback, environment.url), daemon=True
                ).start()
                warmed = True
            return [name for name in names if not health[name]]

        self.wait_until(unhealthy, progress)

    def _check(self, names: Sequence[str], environment: Environment) -> None:
        """Raise if a component has ended, unless the sync process restarts it for its plugins."""
        try:
            self.supervisor.check(*names)
        except EnvironmentFailure:
            if not sync_says(environment, "restarting"):
                self.supervisor.check(*names)  # That may have ended a moment ago.

    def wait_until(
        self, unhealthy: Callable[[], list[str]], progress: Callable[[str], None]
    ) -> None:
        """Wait until nothing is unhealthy; what stays so is shown with the end of its log."""
        wait_until_healthy(
            unhealthy,
            seconds=self.settings.up_timeout,
            progress=progress,
            hint=lambda name: f"The end of its log:\n{self.supervisor.tail(name)}",
        )
