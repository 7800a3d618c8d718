"""The target: it brings an environment up on this machine, and takes it down."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from windsock.airflow import settings as airflow_settings
from windsock.airflow.health import AIRFLOW
from windsock.airflow.settings_import import forget_imports
from windsock.cluster.images import recipe
from windsock.errors import EnvironmentFailure
from windsock.files import private_folder, write_whole
from windsock.local import ports
from windsock.local.components import CONTROL_SOCKET, ensure_runtime, inherited_variables
from windsock.local.migration import migrate
from windsock.local.orphans import marked, reap
from windsock.local.programs import changed_variables
from windsock.local.venv import remove_unused
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync_process.control import ControlClient
from windsock.targets.folder import remove_state
from windsock.targets.local.parts import ALL, VENV
from windsock.targets.location import Location
from windsock.targets.plan import Action, PlannedStep, Record, UpStep, nothing_to_do
from windsock.targets.this_machine import NOT_RUNNING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from windsock.local.programs import Program
    from windsock.targets.local.parts import LocalParts
    from windsock.terminal.console import Console

VENV_SECONDS = 60.0
DATABASE_SECONDS = 10.0
START_SECONDS = 7.0
"""About how long a new venv, a new database and the start take."""


class LocalTarget:
    """Brings an environment up on this machine, and takes it down.

    Args:
        parts: Of the environment.
    """

    name = "local"

    def __init__(self, parts: LocalParts) -> None:
        self.parts = parts

    def running(self) -> Environment | None:
        """The environment when all of it is up as the settings want it, else None."""
        if not self.parts.was_up or not nothing_to_do(self.deploy()):
            return None
        return Environment.load(self.parts.layout.state)

    def for_rebuild(self) -> LocalTarget:
        """A target of the venv that the files describe now."""
        return LocalTarget(dataclasses.replace(self.parts))

    def locked(self) -> AbstractContextManager[None]:
        """Lock the state folder, and write down where the environment is."""
        return self.parts.locked()

    def prepare(self) -> Sequence[UpStep]:
        """Build Airflow's venv if its requirements changed."""
        return [UpStep(plan=self._planned_venv, run=self.parts.build_venv)]

    def deploy(self) -> Sequence[UpStep]:
        """Start the database, migrate it if needed, and start Airflow and the sync."""
        return [
            UpStep(plan=self._planned_database, run=self._start_database),
            UpStep(plan=self._planned_processes, run=self._start_airflow),
        ]

    def _planned_venv(self) -> PlannedStep:
        if self.parts.find_venv():
            return PlannedStep(what=VENV, action=Action.NONE)
        return PlannedStep(
            what=VENV,
            action=Action.CHANGE if self.parts.layout.venvs.is_dir() else Action.MAKE,
            why="there is none of exactly these requirements",
            seconds=VENV_SECONDS,
        )

    def _planned_database(self) -> PlannedStep:
        found = self.parts.find_venv()
        # Without a venv nothing is known of the Airflow that will be in it.
        migrated = self._migrated.action(found.digest if found else "?")
        reasons = {
            Action.MAKE: "there is none yet",
            Action.CHANGE: "another Airflow migrated it last",
        }
        return PlannedStep(
            what="database",
            action=migrated,
            why=reasons.get(migrated, ""),
            seconds=DATABASE_SECONDS,
        )

    def _planned_processes(self) -> PlannedStep:
        parts = self.parts
        stopped = PlannedStep(
            what=", ".join(ALL), action=Action.START, why=NOT_RUNNING, seconds=START_SECONDS
        )
        if not parts.was_up or parts.find_venv() is None or not parts.supervisor.alive():
            return stopped
        step = parts.planned_processes(parts.programs())
        socket = Environment.load(parts.layout.state).control_socket
        if step.action is Action.NONE and not ControlClient(socket).answers():
            return dataclasses.replace(stopped, what="sync", why="it does not answer")
        return dataclasses.replace(step, seconds=START_SECONDS)

    @property
    def _migrated(self) -> Record:
        """The venv whose Airflow migrated the database last."""
        return Record(self.parts.layout.migrated)

    def _start_database(self, console: Console) -> None:
        parts = self.parts
        ports.remember(parts.ports, memory=parts.layout.ports)
        ensure_runtime(parts.layout)
        fresh_database = not parts.layout.database.exists()
        if parts.ports["api"].reason:
            console.warning(f"port {parts.ports['api'].reason}: using {parts.ports['api'].port}")
        with console.step("PostgreSQL") as step:
            for note in parts.postgres.initialize():
                console.detail(note)
            if fresh_database:
                forget_imports(parts.layout.state)
            private_folder(parts.layout.source.parent)
            write_whole(parts.layout.source, str(parts.settings.dags_folder.resolve()))
            programs = parts.programs()
            self._say_what_restarts(console, programs)
            parts.supervisor.apply(programs)
            parts.supervisor.start("postgres")
            parts.wait_database()
            step.detail = f"{ports.LOOPBACK}:{parts.ports['postgres'].port}"
        parts.supervisor.start("sync")  # It fills the store while the database is migrated.
        self._migrate(console)

    def _say_what_restarts(self, console: Console, programs: list[Program]) -> None:
        """Name the variables that what runs does not have yet; never their values."""
        parts = self.parts
        parts.warn_of_ignored_variables(console, parts.own_variables)
        if not (parts.was_up and parts.supervisor.alive()):
            return
        if names := changed_variables(parts.layout.state, programs):
            console.line(f"variables changed: {', '.join(names)}; restarting {', '.join(AIRFLOW)}")

    def _migrate(self, console: Console) -> None:
        """Migrate the database, unless this very Airflow did so before: a no-op costs 5 s."""
        parts, venv = self.parts, self.parts.ready_venv()
        if self._migrated.action(venv.digest) is Action.NONE:
            return
        with console.step("database migrated"):
            parts.postgres.ensure_databases()
            migrate(
                venv.python,
                variables={**inherited_variables(parts.variables), **parts.airflow_variables},
                folder=parts.layout.home,
            )
            self._migrated.save(venv.digest)

    def _start_airflow(self, console: Console) -> None:
        del console  # `wait` shows what comes of it.
        self._wait_for_plugins()
        self.parts.supervisor.start(*AIRFLOW)
        # Not earlier: a supervisor that starts ends all processes of an earlier one.
        self.parts.ready_venv().compile_later(self.parts.recipe.environment)

    def _wait_for_plugins(self) -> None:
        """Airflow reads its plugins when it starts: they must be in the store by then."""
        parts = self.parts
        if airflow_settings.PLUGINS in parts.settings.further_folders:
            client = ControlClient(str(parts.layout.socket(CONTROL_SOCKET)))
            parts.wait_until(lambda: [] if client.answers() else ["sync"], lambda _: None)
            client.synced(timeout=parts.settings.up_timeout)

    def wait(self, console: Console) -> Environment:
        """Wait until Airflow answers and has parsed the DAG folder."""
        parts = self.parts
        environment = parts.describe(url=f"http://{ports.LOOPBACK}:{parts.ports['api'].port}")
        with console.step("Airflow") as step:
            parts.wait_healthy((*AIRFLOW, "sync"), environment, step.progress)
            step.detail = f"{environment.airflow} on {environment.url}"
        return environment

    def sources(self) -> Sequence[Path]:
        """The files of the project that Airflow is built of, on any target."""
        settings = self.parts.settings
        images = (recipe.sources(settings, target).values() for target in recipe.OWN)
        venv = self.parts.recipe.sources()
        files = [*venv, self.parts.env_file, *(path for each in images for path in each)]
        return list(dict.fromkeys(files))

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done when these files have changed; empty if nothing."""
        if set(changed) & set(self.parts.recipe.sources()):
            return f"Airflow's venv must be rebuilt, and {', '.join(AIRFLOW)} restarted"
        if self.parts.env_file in changed:
            return f"{', '.join(AIRFLOW)} must be restarted"
        return ""

    def down(self, console: Console, *, volumes: bool) -> None:
        """Stop everything; with `volumes` also remove what it stored."""
        layout = self.parts.layout
        if layout.state.exists() and (self.parts.has_secrets or marked(layout.state)):
            with console.step("stopped"):
                (layout.state / ENVIRONMENT_FILE).unlink(missing_ok=True)
                self._stop_everything()
        else:
            console.line("nothing is up")
        Location.remove(layout.state)
        if volumes:
            remove_state(layout, console)
        else:
            remove_unused(layout.venvs)

    def end(self, console: Console) -> None:
        """Stop what `up` or `ci` brought up."""
        self.down(console, volumes=False)

    def give_up(self, console: Console) -> None:
        """Stop everything: nothing of it stays."""
        self.down(console, volumes=False)

    def _stop_everything(self) -> None:
        try:
            supervisor = self.parts.supervisor
        except EnvironmentFailure:
            # Damaged secrets, and the supervisor's password with them: it need not be asked.
            reap(self.parts.layout.state)
        else:
            supervisor.shutdown()
