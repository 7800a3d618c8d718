"""Look at an environment that is up, and into it."""

from __future__ import annotations

import sys
import webbrowser
from typing import TYPE_CHECKING, Any

import windsock
from windsock.errors import ConfigurationError, WindsockError
from windsock.sync_process.control import ControlClient
from windsock.targets import choose, versions

if TYPE_CHECKING:
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment
    from windsock.targets.base import Operations


def status(work: Workspace, *, as_json: bool) -> int:
    """Show every component, the sync, and how many DAGs there are."""
    from windsock.terminal.file_warnings import show_warnings  # noqa: PLC0415 - only here
    from windsock.terminal.unsynced import show_standing  # noqa: PLC0415 - only here

    components = work.operations().status()
    sync: dict[str, Any] | None = None
    environment: Environment | None = None
    try:
        environment = work.environment()
        sync = ControlClient(environment.control_socket).status()
    except WindsockError:
        pass  # Nothing is up, or the sync is not: the table says so.
    outcomes = [
        "success" if item.state == "running" and item.healthy is not False else "failure"
        for item in components
    ]
    failing = sync is not None and bool(sync.get("failing"))
    healthy = bool(outcomes) and "failure" not in outcomes and not failing
    if as_json:
        work.console.json(
            {
                "healthy": healthy,
                "target": str(choose.wanted(work.settings)),
                "dags_folder": environment.dags_folder if environment else None,
                "url": environment.url if environment else None,
                "components": [vars(item) for item in components],
                "sync": sync,
            }
        )
        return 0 if healthy else WindsockError.exit_code
    answer = work.console.on_stdout
    if not components:
        answer.line("nothing is up; `invoke up` starts it")
        answer.line(f"target: {choose.explain(work.settings)}")
        return WindsockError.exit_code
    answer.outcomes(
        (outcome, (item.name, item.state, item.detail))
        for outcome, item in zip(outcomes, components, strict=True)
    )
    if environment is not None and sync is not None:
        answer.line(f"{sync['summary']}")
        answer.line(f"target {choose.wanted(work.settings)}, DAGs in {environment.dags_folder}")
        show_standing(answer, sync, places=work.places(environment))
        show_warnings(answer, sync.get("warnings", ()), places=work.places(environment))
        answer.line(f"{environment.url}")
    return 0 if healthy else WindsockError.exit_code


def logs(work: Workspace, *, component: str, follow: bool, lines: int) -> None:
    """Print log lines."""
    if lines < 0:
        raise ConfigurationError(f"--lines is {lines}", "Give a number from 0.")
    operations = work.operations()
    _check_component(operations, component)
    try:
        for line in operations.logs(component or None, follow=follow, lines=lines):
            work.console.write(line)
    except KeyboardInterrupt:
        return


def restart(work: Workspace, *, component: str) -> None:
    """Restart one component or all."""
    operations = work.as_it_is_up().operations()
    _check_component(operations, component)
    work.environment()
    operations.restart(work.console, component or None)


def _check_component(operations: Operations, component: str) -> None:
    if component and component not in operations.component_names:
        raise ConfigurationError(
            f"there is no component {component!r}",
            f"Choose one of: {', '.join(operations.component_names)}.",
        )


def shell(work: Workspace, *, command: list[str]) -> int:
    """Run a command, or an interactive shell, in Airflow's environment."""
    environment = work.environment()
    if not command:
        work.console.line(f"a shell in Airflow's environment ({environment.target}); exit to leave")
    return work.as_it_is_up().operations().shell(command)


def open_ui(work: Workspace) -> None:
    """Open the UI in the browser."""
    environment = work.environment()
    work.console.line(f"{environment.url}  user {environment.user}")
    work.console.line(f"password in {environment.password_file}")
    if not webbrowser.open(environment.url):
        work.console.warning("no browser could be opened here; open the address above")


def version(work: Workspace, *, as_json: bool) -> None:
    """Print versions."""
    found = {
        "windsock": windsock.__version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "airflow": versions.airflow_version(work.settings),
    }
    if as_json:
        work.console.json(found)
    else:
        for name, value in found.items():
            work.console.write(f"{name} {value}")
