"""What every target has on this machine: the sync process, the environment's file, and the wait."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.local.components import CONTROL_SOCKET, SYNC_STAGE
from windsock.local.programs import Program
from windsock.local.secrets import ADMIN
from windsock.model import Environment
from windsock.sync_process.control import ControlClient
from windsock.sync_process.settings import ServiceSettings
from windsock.targets.plan import Action, PlannedStep
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from windsock.config import Settings
    from windsock.local.components import Layout
    from windsock.local.processes import Supervisor
    from windsock.local.secrets import Secrets
    from windsock.sync_process.settings import PodSettings

NOT_RUNNING = "the processes do not run"


def describe(
    settings: Settings, layout: Layout, *, target: str, url: str, secrets: Secrets
) -> Environment:
    """The environment, as the commands and the tests find it.

    Args:
        settings: Of the environment.
        layout: Of its state folder.
        target: The name of its target.
        url: Of the UI and API on this machine.
        secrets: Of the environment.
    """
    return Environment(
        target=target,
        url=url,
        user=ADMIN,
        password_file=str(secrets.admin_password_file),
        control_socket=str(layout.socket(CONTROL_SOCKET)),
        dags_folder=str(settings.dags_folder.resolve()),
        airflow=airflow_version(settings),
    )


def sync_program(
    settings: Settings,
    layout: Layout,
    *,
    store: str,
    processor_socket: str,
    pod: PodSettings | None = None,
) -> Program:
    """The supervised sync process.

    Args:
        settings: Of the environment.
        layout: Of its state folder.
        store: The snapshot store, where the agent runs.
        processor_socket: Where the dag-processor listens there.
        pod: Where the agent runs; None means on this machine.
    """
    sync = settings.sync
    service = ServiceSettings(
        dags_folder=str(settings.dags_folder.resolve()),
        store=store,
        processor_socket=processor_socket,
        control_socket=str(layout.socket(CONTROL_SOCKET)),
        state_folder=str(layout.state),
        airflow_settings=str(settings.path(settings.airflow_settings)),
        quiet=sync.quiet,
        longest=sync.longest,
        keep_snapshots=sync.keep_snapshots,
        maximum_bytes=sync.maximum_bytes,
        pod=pod,
        further={name: str(folder) for name, folder in settings.further_folders.items()},
        secrets=str(layout.secrets),
        up_timeout=settings.up_timeout,
    )
    return module_program(
        "sync", "windsock.sync_process.service", service.as_variable(), settings=settings
    )


def module_program(
    name: str, module: str, environment: Mapping[str, str], *, settings: Settings
) -> Program:
    """A module of the toolkit as a supervised process, stopped before anything of Airflow's."""
    return Program(
        name=name,
        command=(sys.executable, "-m", module),
        environment=environment,
        folder=settings.project,
        stage=SYNC_STAGE,
    )


def sync_says(environment: Environment, what: str) -> bool:
    """Whether the sync process says that it is connected, or healthy; false if it says nothing."""
    try:
        return bool(ControlClient(environment.control_socket).status()[what])
    except (WindsockError, KeyError):
        return False


def planned_processes(
    supervisor: Supervisor, layout: Layout, programs: Iterable[Program]
) -> PlannedStep:
    """What must be done so that all of these programs run as they are described now."""
    wanted = {program.name: program.description_file for program in programs}
    changed = [name for name, file in wanted.items() if not (layout.state / file).exists()]
    if changed:
        return PlannedStep(
            what=", ".join(changed),
            action=Action.CHANGE,
            why="what the processes are started with has changed",
        )
    states = supervisor.states()
    stopped = [name for name in wanted if name not in states or not states[name].running]
    if stopped:
        return PlannedStep(what=", ".join(stopped), action=Action.START, why=NOT_RUNNING)
    return PlannedStep(what=", ".join(wanted), action=Action.NONE)
