"""What every environment has on this machine: a state folder, a supervisor, a sync process."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from windsock.airflow.health import loopback_client
from windsock.errors import WindsockError
from windsock.files import private_folder
from windsock.local.components import CONTROL_SOCKET, SYNC_STAGE, Layout, inherited_variables
from windsock.local.locking import state_lock
from windsock.local.processes import Supervisor
from windsock.local.programs import Program, changed_variables
from windsock.local.secrets import ADMIN, FILE, Secrets
from windsock.local.variables import ignored, project_variables
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync_process.control import ControlClient
from windsock.sync_process.settings import ServiceSettings
from windsock.targets.plan import Action, PlannedStep
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx

    from windsock.config import Settings
    from windsock.sync_process.settings import PodSettings
    from windsock.targets.location import Location
    from windsock.terminal.console import Console

NOT_RUNNING = "the processes do not run"


@dataclass(kw_only=True)
class ThisMachine:
    """The parts of an environment on this machine, each made when it is first needed.

    Attributes:
        settings: Of the environment.
        location: Where Airflow runs.
        variables: The environment variables of this process.
    """

    settings: Settings
    location: Location
    variables: Mapping[str, str]

    @cached_property
    def layout(self) -> Layout:
        """The state folder."""
        return Layout(state=self.settings.state_folder)

    @cached_property
    def project_variables(self) -> dict[str, str]:
        """What Airflow's processes get from `.env` and from the author's shell, on every target.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        return project_variables(self.env_file, self.variables)

    @property
    def env_file(self) -> Path:
        """The project's environment file, which may not exist."""
        return self.settings.path(self.settings.env_file)

    def warn_of_ignored_variables(self, console: Console, own: Collection[str]) -> None:
        """Name what stands in the environment file and has no effect.

        Args:
            console: To write to.
            own: The names that windsock sets.
        """
        if names := ignored(self.env_file, self.variables, own=own):
            console.warning(f"{self.env_file.name}: without effect: {', '.join(names)}")
            console.detail("windsock, or the machine that Airflow runs on, sets them.")
            console.detail("Settings of Airflow stand below `airflow` in invoke.yaml.")

    @property
    def was_up(self) -> bool:
        """Whether the environment is, or was, up."""
        return (self.layout.state / ENVIRONMENT_FILE).exists()

    @property
    def secrets(self) -> Secrets:
        """Passwords and keys, as they are in the state folder now."""
        private_folder(self.layout.state)
        return Secrets.ensure(self.layout.secrets)

    @property
    def has_secrets(self) -> bool:
        """Whether there are secrets: without them nothing was ever started."""
        return (self.layout.secrets / FILE).exists()

    @property
    def scripts(self) -> Path | None:
        """A folder of programs for all processes, if there is one."""
        return None

    @cached_property
    def supervisor(self) -> Supervisor:
        """The supervisor of all processes on this machine."""
        return Supervisor(
            self.layout.state,
            password=self.secrets.supervisor_password,
            inherited=inherited_variables(self.variables, scripts=self.scripts),
        )

    @cached_property
    def loopback(self) -> httpx.Client:
        """A client for Airflow's address on this machine."""
        return loopback_client()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the state folder, and write down where the environment is.

        Raises:
            EnvironmentFailure: Another command is bringing it up.
        """
        with state_lock(self.layout.state):
            self.location.save(self.layout.state)
            yield

    def describe(self, *, url: str) -> Environment:
        """The environment, as the commands and the tests find it.

        Args:
            url: Of the UI and API on this machine.
        """
        return Environment(
            target=self.location.target,
            url=url,
            user=ADMIN,
            password_file=str(self.secrets.admin_password_file),
            control_socket=str(self.layout.socket(CONTROL_SOCKET)),
            dags_folder=str(self.settings.dags_folder.resolve()),
            airflow=airflow_version(self.settings),
            further=self._further,
            patience=self.settings.up_timeout,
            parallelism=self._parallelism(),
        )

    @property
    def _further(self) -> dict[str, str]:
        return {name: str(folder) for name, folder in self.settings.further_folders.items()}

    def _parallelism(self) -> int:
        """How many task instances run at once; 0 if the setting is no number."""
        ours = self.settings.local.parallelism if self.location.target == "local" else 0
        given = self.settings.airflow.get("core.parallelism", str(ours))
        return int(given) if given.isdecimal() else 0

    def sync_program(
        self, *, store: str, processor_socket: str, pod: PodSettings | None = None
    ) -> Program:
        """The supervised sync process.

        Args:
            store: The snapshot store, where the agent runs.
            processor_socket: Where the dag-processor listens there.
            pod: Where the agent runs; None means on this machine.
        """
        settings, sync = self.settings, self.settings.sync
        service = ServiceSettings(
            dags_folder=str(settings.dags_folder),
            store=store,
            processor_socket=processor_socket,
            control_socket=str(self.layout.socket(CONTROL_SOCKET)),
            state_folder=str(self.layout.state),
            airflow_settings=str(settings.path(settings.airflow_settings)),
            env_file=str(self.env_file),
            quiet=sync.quiet,
            longest=sync.longest,
            keep_snapshots=sync.keep_snapshots,
            maximum_bytes=sync.maximum_bytes,
            pod=pod,
            further=self._further,
            secrets=str(self.layout.secrets),
            up_timeout=settings.up_timeout,
        )
        return self.module_program("sync", "windsock.sync_process.service", service.as_variable())

    def module_program(self, name: str, module: str, environment: Mapping[str, str]) -> Program:
        """A module of windsock as a supervised process, stopped before anything of Airflow's."""
        return Program(
            name=name,
            command=(sys.executable, "-m", module),
            environment=environment,
            folder=self.settings.project,
            stage=SYNC_STAGE,
        )

    def planned_processes(self, programs: Sequence[Program]) -> PlannedStep:
        """What must be done so that all of these programs run as they are described now."""
        wanted = {program.name: program.description_file for program in programs}
        changed = [name for name, file in wanted.items() if not (self.layout.state / file).exists()]
        if changed:
            variables = changed_variables(self.layout.state, programs)
            return PlannedStep(
                what=", ".join(changed),
                action=Action.CHANGE,
                why=f"variables changed: {', '.join(variables)}"
                if variables
                else "what the processes are started with has changed",
            )
        states = self.supervisor.states()
        stopped = [name for name in wanted if name not in states or not states[name].running]
        if stopped:
            return PlannedStep(what=", ".join(stopped), action=Action.START, why=NOT_RUNNING)
        return PlannedStep(what=", ".join(wanted), action=Action.NONE)


def sync_says(environment: Environment, what: str) -> bool:
    """Whether the sync process says that it is connected, or healthy; false if it says nothing."""
    try:
        return bool(ControlClient(environment.control_socket).status()[what])
    except (WindsockError, KeyError):
        return False
