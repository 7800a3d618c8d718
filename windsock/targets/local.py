"""The local target: Airflow's own processes and a PostgreSQL on this machine, no Docker at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from windsock.airflow import settings as airflow_settings
from windsock.airflow.health import (
    AIRFLOW,
    airflow_health,
    is_healthy,
    loopback_client,
    wait_until_healthy,
    warm_up,
)
from windsock.airflow.settings_import import forget_imports
from windsock.cluster.images import recipe
from windsock.errors import ConfigurationError, EnvironmentFailure, WindsockError
from windsock.local import ports, venv
from windsock.local.components import (
    CONTROL_SOCKET,
    DAG_PROCESSOR_SOCKET,
    PORTS,
    Layout,
    airflow_programs,
    airflow_variables,
    ensure_runtime,
    inherited_variables,
    runtime_folder,
)
from windsock.local.files import private_folder
from windsock.local.locking import state_lock
from windsock.local.logs import follow_logs
from windsock.local.migration import migrate
from windsock.local.orphans import carries_mark, mark, marked, reap
from windsock.local.postgres import Postgres
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync_process.control import ControlClient
from windsock.targets.base import Component
from windsock.targets.folder import check_folders, links, remove_state
from windsock.targets.location import Location
from windsock.targets.plan import Action, PlannedStep, Record, nothing_to_do
from windsock.targets.this_machine import (
    NOT_RUNNING,
    describe,
    planned_processes,
    sync_program,
    sync_says,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx

    from windsock.config import Settings
    from windsock.local.processes import ProcessState
    from windsock.local.programs import Program
    from windsock.terminal.console import Console

ALL = ("postgres", *AIRFLOW, "sync")

VENV_SECONDS = 60.0
DATABASE_SECONDS = 10.0
START_SECONDS = 7.0
"""About how long a new venv, a new database and the start take."""


class VenvRecipe(TypedDict):
    """What `venv.find` and `venv.ensure` are asked for."""

    python: str
    lock: Path
    extra: Path
    environment: dict[str, str]


class LocalTarget:
    """Brings an environment up on this machine, looks into it, and takes it down.

    Args:
        settings: Of the environment.
        variables: The environment variables of this process.
        read_only: Write nothing to the state folder: only a plan is wanted.
    """

    name = "local"
    component_names: Sequence[str] = ALL

    def __init__(
        self, settings: Settings, *, variables: Mapping[str, str], read_only: bool = False
    ) -> None:
        self._settings = settings
        self._inherited = variables
        self._read_only = read_only
        self._layout = Layout(state=settings.state_folder)
        self._venv: venv.Venv | None = None

    # --- the parts, made when first needed ----------------------------------------------------

    @cached_property
    def _secrets(self) -> Secrets:
        private_folder(self._layout.state)
        return Secrets.ensure(self._layout.secrets)

    @cached_property
    def _supervisor(self) -> Supervisor:
        scripts = self._venv.scripts if self._venv is not None else None
        return Supervisor(
            self._layout.state,
            password=self._secrets.supervisor_password,
            inherited=inherited_variables(self._inherited, scripts=scripts),
        )

    @cached_property
    def _ports(self) -> Mapping[str, ports.PortChoice]:
        return ports.choose(
            {"api": self._settings.local.port, **PORTS},
            memory=self._layout.ports,
            remember=not self._read_only,
            ours=lambda pid: carries_mark(pid, self._layout.state),
        )

    @cached_property
    def _postgres(self) -> Postgres:
        return Postgres(
            self._layout.database, port=self._ports["postgres"].port, secrets=self._secrets
        )

    @cached_property
    def _runtime(self) -> Path:
        return (runtime_folder if self._read_only else ensure_runtime)(self._layout)

    @cached_property
    def _airflow_variables(self) -> dict[str, str]:
        return airflow_variables(
            self._settings,
            self._layout,
            secrets=self._secrets,
            postgres=self._postgres,
            ports=self._ports,
            runtime=self._runtime,
        )

    @cached_property
    def _loopback(self) -> httpx.Client:
        return loopback_client()

    def _programs(self) -> list[Program]:
        return [
            self._postgres.program(),
            *airflow_programs(self._layout, self._ready_venv(), self._airflow_variables),
            self._sync_program(),
        ]

    def _sync_program(self) -> Program:
        return sync_program(
            self._settings,
            self._layout,
            store=str(self._layout.store),
            processor_socket=str(self._layout.socket(DAG_PROCESSOR_SOCKET)),
        )

    def _ready_venv(self) -> venv.Venv:
        """The venv, which `prepare` has built.

        Raises:
            EnvironmentFailure: It has not.
        """
        if self._venv is None:
            self._venv = venv.find(self._layout.venvs, **self._venv_recipe())
        if self._venv is None:
            raise EnvironmentFailure("Airflow is not installed here yet", "Run `invoke up` first.")
        return self._venv

    def _venv_recipe(self) -> VenvRecipe:
        return {
            "python": self._settings.local.python,
            "lock": self._settings.lock,
            "extra": self._settings.path(self._settings.requirements),
            # The mark: a build that a killed `up` left behind is ended with the rest.
            "environment": {**self._inherited, **mark(self._layout.state)},
        }

    # --- bringing it up -----------------------------------------------------------------------

    def running(self) -> Environment | None:
        """The environment when all of it is up as the settings want it, else None."""
        if not self._was_up or not nothing_to_do(self.plan()):
            return None
        return Environment.load(self._layout.state)

    @property
    def _was_up(self) -> bool:
        """Whether the environment is, or was, up."""
        return (self._layout.state / ENVIRONMENT_FILE).exists()

    def plan(self) -> Iterator[PlannedStep]:
        """What bringing it up does, step by step."""
        check_folders(self._settings)
        self._venv = venv.find(self._layout.venvs, **self._venv_recipe())
        missing = Action.CHANGE if self._layout.venvs.is_dir() else Action.MAKE
        yield PlannedStep(
            what="Airflow's venv",
            action=Action.NONE if self._venv else missing,
            why="" if self._venv else "there is none of exactly these requirements",
            seconds=VENV_SECONDS,
        )
        yield self._planned_database()
        yield self._planned_processes()

    def _planned_database(self) -> PlannedStep:
        # What is not known without a venv changes with it.
        migrated = self._migrated.action(self._venv.digest if self._venv else "?")
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
        stopped = PlannedStep(
            what=", ".join(ALL), action=Action.START, why=NOT_RUNNING, seconds=START_SECONDS
        )
        if not self._was_up or self._venv is None or not self._supervisor.alive():
            return stopped
        step = planned_processes(self._supervisor, self._layout, self._programs())
        socket = Environment.load(self._layout.state).control_socket
        if step.action is Action.NONE and not ControlClient(socket).answers():
            return replace(stopped, what="sync", why="it does not answer")
        return replace(step, seconds=START_SECONDS)

    @property
    def _migrated(self) -> Record:
        """The venv whose Airflow migrated the database last."""
        return Record(self._layout.migrated)

    @contextlib.contextmanager
    def bringing_up(self) -> Iterator[None]:
        """Have the lock of the state folder, and write down where the environment is."""
        with state_lock(self._layout.state):
            Location(target=self.name).save(self._layout.state)
            yield

    def prepare(self, console: Console) -> None:
        """Build Airflow's venv if its requirements changed."""
        check_folders(self._settings)
        with console.step("Airflow's venv") as step:
            self._venv = venv.ensure(
                self._layout.venvs, **self._venv_recipe(), progress=step.progress
            )
            step.detail = "installed" if self._venv.created else "unchanged"
        private_folder(self._layout.home)

    def deploy(self, console: Console) -> None:
        """Start the database, migrate it if needed, and start Airflow and the sync."""
        fresh_database = not self._layout.database.exists()
        for choice in self._ports.values():
            if choice.reason and choice.name == "api":
                console.warning(f"port {choice.reason}: using {choice.port}")
        with console.step("PostgreSQL") as step:
            for note in self._postgres.initialize():
                console.detail(note)
            if fresh_database:
                forget_imports(self._layout.state)
            self._supervisor.apply(self._programs())
            self._supervisor.start("postgres")
            self._postgres.wait_ready(check=lambda: self._supervisor.check("postgres"))
            step.detail = f"{ports.LOOPBACK}:{self._ports['postgres'].port}"
        self._supervisor.start("sync")  # It fills the store while the database is migrated.
        self._migrate(console)
        self._wait_for_plugins()
        self._supervisor.start(*AIRFLOW)
        # Not earlier: a supervisor that starts ends all processes of an earlier one.
        self._ready_venv().compile_later(self._venv_recipe()["environment"])

    def _wait_for_plugins(self) -> None:
        """Airflow reads its plugins when it starts: they must be in the store by then."""
        if airflow_settings.PLUGINS in self._settings.further_folders:
            client = ControlClient(str(self._layout.socket(CONTROL_SOCKET)))
            wait_until_healthy(
                lambda: [] if client.answers() else ["sync"],
                seconds=self._settings.up_timeout,
                progress=lambda _: None,
                hint=lambda name: f"The end of its log:\n{self._supervisor.tail(name)}",
            )
            client.synced(timeout=self._settings.up_timeout)

    def _migrate(self, console: Console) -> None:
        """Migrate the database, unless this very Airflow did so before: a no-op costs 5 s."""
        digest = self._ready_venv().digest
        if self._migrated.action(digest) is Action.NONE:
            return
        with console.step("database migrated"):
            self._postgres.ensure_databases()
            migrate(
                self._ready_venv().python,
                variables={**inherited_variables(self._inherited), **self._airflow_variables},
                folder=self._layout.home,
            )
            self._migrated.save(digest)

    def wait(self, console: Console) -> Environment:
        """Wait until Airflow answers and has parsed the DAG folder."""
        environment = describe(
            self._settings,
            self._layout,
            target=self.name,
            url=f"http://{ports.LOOPBACK}:{self._ports['api'].port}",
            secrets=self._secrets,
        )
        with console.step("Airflow") as step:
            self._wait_healthy((*AIRFLOW, "sync"), environment, step.progress)
            step.detail = f"{environment.airflow} on {environment.url}"
        return environment

    def _wait_healthy(self, names: Sequence[str], environment: Environment, progress: Any) -> None:
        warmed = False

        def unhealthy() -> list[str]:
            nonlocal warmed
            self._supervisor.check(*names)
            health = self._health(environment)
            if health["api-server"] and not warmed:
                # In a thread: it takes a second or two, while the others still start.
                threading.Thread(
                    target=warm_up, args=(self._loopback, environment.url), daemon=True
                ).start()
                warmed = True
            return [name for name in names if not health[name]]

        wait_until_healthy(
            unhealthy,
            seconds=self._settings.up_timeout,
            progress=progress,
            hint=lambda name: f"The end of its log:\n{self._supervisor.tail(name)}",
        )

    def _health(self, environment: Environment) -> dict[str, bool]:
        """Component → whether Airflow's health endpoint calls it healthy, or the sync answers."""
        health = airflow_health(self._loopback, environment.url)
        states = self._supervisor.states()
        healthy = {
            name: name in states
            and is_healthy(health.get(name) or {}, name, since=states[name].since)
            for name in AIRFLOW
        }
        return {**healthy, "sync": ControlClient(environment.control_socket).answers()}

    # --- what it is made of -------------------------------------------------------------------

    def _installed(self) -> tuple[Path, ...]:
        recipe = self._venv_recipe()
        return venv.sources(recipe["lock"], recipe["extra"])

    def sources(self) -> Sequence[Path]:
        """The files of the project that Airflow is built of, on any target."""
        images = (recipe.sources(self._settings, target).values() for target in recipe.OWN)
        return list(
            dict.fromkeys([*self._installed(), *(path for each in images for path in each)])
        )

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done when these files have changed; empty if nothing."""
        if not set(changed) & set(self._installed()):
            return ""
        return f"Airflow's venv must be rebuilt, and {', '.join(AIRFLOW)} restarted"

    # --- taking it down, and looking into it ------------------------------------------------------

    def down(self, console: Console, *, volumes: bool) -> None:
        """Stop everything; with `volumes` also remove what it stored."""
        if self._layout.state.exists() and (
            (self._layout.secrets / "secrets.json").exists() or marked(self._layout.state)
        ):
            with console.step("stopped"):
                (self._layout.state / ENVIRONMENT_FILE).unlink(missing_ok=True)
                self._stop_everything()
        else:
            console.line("nothing is up")
        Location.remove(self._layout.state)
        if volumes:
            remove_state(self._layout, console)
        else:
            venv.remove_unused(self._layout.venvs)

    def end(self, console: Console) -> None:
        """Stop what `up` or `ci` brought up."""
        self.down(console, volumes=False)

    def give_up(self, console: Console) -> None:
        """Stop everything: nothing of it stays."""
        self.down(console, volumes=False)

    def _stop_everything(self) -> None:
        try:
            supervisor = self._supervisor
        except EnvironmentFailure:
            # Damaged secrets, and the supervisor's password with them: it need not be asked.
            reap(self._layout.state)
        else:
            supervisor.shutdown()

    def status(self) -> list[Component]:
        """The state of every component; none if nothing is up."""
        if not (self._layout.secrets / "secrets.json").exists() or not self._supervisor.alive():
            return []
        health: dict[str, bool] = {}
        with contextlib.suppress(WindsockError):
            environment = Environment.load(self._layout.state)
            health = {**self._health(environment), "sync": sync_says(environment, "healthy")}
        return [
            _component(state, healthy=health.get(state.name))
            for state in sorted(self._supervisor.states().values(), key=lambda s: ALL.index(s.name))
        ]

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        """Log lines of one component, or of all with their names before them."""
        names = [component] if component else list(ALL)
        files = {name: self._layout.state / "logs" / f"{name}.log" for name in names}
        return follow_logs(files, follow=follow, lines=lines, prefixed=component is None)

    def restart(self, console: Console, component: str | None) -> None:
        """Restart one component or all of them, and wait until it is healthy."""
        names = [component] if component else list(ALL)
        with console.step(f"restarted {', '.join(names)}") as step:
            self._supervisor.stop(*names)
            if "postgres" in names:
                self._supervisor.start("postgres")
                self._postgres.wait_ready(check=lambda: self._supervisor.check("postgres"))
            self._supervisor.start(*names)
            environment = Environment.load(self._layout.state)
            self._wait_healthy(
                [name for name in names if name in (*AIRFLOW, "sync")], environment, step.progress
            )

    def shell(self, command: Sequence[str]) -> int:
        """Run a command (or an interactive shell) in Airflow's environment; its exit code."""
        variables = {
            **inherited_variables(self._inherited, scripts=self._ready_venv().scripts),
            **self._airflow_variables,
            "VIRTUAL_ENV": str(self._ready_venv().folder),
        }
        wanted = list(command) or [self._inherited.get("SHELL") or "/bin/sh"]
        executable = shutil.which(wanted[0], path=variables["PATH"])
        if executable is None:
            raise ConfigurationError(f"there is no command {wanted[0]!r} in Airflow's environment")
        return subprocess.call([executable, *wanted[1:]], env=variables)

    def check(self, folder: str) -> Iterator[dict[str, Any]]:
        """Import every DAG below `folder`; an outcome a file."""
        parse = self._settings.parse
        command = [
            str(self._ready_venv().python), "-m", "windsock.runtime.check", folder,
            f"--timeout={parse.import_timeout}", f"--memory={parse.memory_limit_mb}",
            f"--processes={parse.processes}",
        ]  # fmt: skip
        variables = {
            **inherited_variables(self._inherited),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(self._layout.home / "check"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "20",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(parse.import_timeout),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        with (
            links(self._settings.further_folders) as further,
            subprocess.Popen(
                command,
                env=variables | _importing(further, runtime=self._runtime),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as child,
        ):
            if child.stdout is None or child.stderr is None:
                raise AssertionError("the pipes were asked for")
            for line in child.stdout:
                yield json.loads(line)
            said = child.stderr.read()
        if child.returncode != 0:
            raise EnvironmentFailure(
                "the DAGs could not be checked", "\n".join(said.splitlines()[-10:])
            )


def _importing(further: Path, *, runtime: Path) -> dict[str, str]:
    """Where Python and Airflow find what DAG files import from other folders."""
    return {
        "PYTHONPATH": f"{runtime}{os.pathsep}{further}",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(further / airflow_settings.PLUGINS),
    }


STATE_WORDS = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "failed",
    "FATAL": "failed",
    "EXITED": "failed",
}


def _component(state: ProcessState, *, healthy: bool | None) -> Component:
    word = STATE_WORDS.get(state.state, "stopped")
    if word == "starting" and healthy:
        word = "running"  # To the supervisor it starts until it has lived for a while.
    detail = state.description or (f"pid {state.pid}" if state.pid else "")
    return Component(name=state.name, state=word, detail=detail, healthy=healthy)
