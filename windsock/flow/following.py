"""Follow the saves of an environment that is up."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.events import Attached, from_json
from windsock.local.crashes import LAST_WORDS
from windsock.local.locking import locked_by
from windsock.local.logs import last_lines
from windsock.local.programs import LOGS
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.events import Event
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment, ParsedSnapshot
    from windsock.terminal.feedback import Feedback

RESTART_SECONDS = 10.0
"""How long a sync process that ended is waited for: its supervisor starts it again."""

FIRST_PARSE_SECONDS = 15.0
"""How long the first parse of the whole DAG folder is waited for while no file gets parsed."""

PROGRESS_SECONDS = 5.0
"""How often that is told."""


def show_dags(work: Workspace, environment: Environment) -> None:
    """Print the number of DAGs, and show every file that does not import."""
    from windsock.terminal.broken_files import show_errors  # noqa: PLC0415 - only here
    from windsock.terminal.file_warnings import show_warnings  # noqa: PLC0415 - only here

    client = ControlClient(environment.control_socket)
    try:
        settled = _wait_for_first_parse(work, client)
    except DeadlineExceeded as error:
        # A file may hang: that must not keep Airflow from its users.
        work.console.warning(error.message)
        return
    except EnvironmentFailure as error:
        if not client.status()["halted"]:
            raise
        work.console.error(error)  # It must be up for its hint, `invoke sync --allow-empty`.
        return
    work.console.success(f"{len(settled.dags)} DAGs parsed")
    show_errors(work.console, settled.errors, places=work.places(environment))
    show_warnings(work.console, settled.warnings, places=work.places(environment))


def show_what_stands(work: Workspace, environment: Environment) -> None:
    """Print what is not synced, and why saves are noticed late, where no events are shown."""
    from windsock.terminal.unsynced import show_standing  # noqa: PLC0415 - only here

    with contextlib.suppress(WindsockError):  # The sync is away, which the commands tell.
        state = ControlClient(environment.control_socket).status()
        show_standing(work.console, state, places=work.places(environment))


def _wait_for_first_parse(work: Workspace, client: ControlClient) -> ParsedSnapshot:
    """Wait for the first parse as long as it gets on, and tell how far it is.

    Raises:
        DeadlineExceeded: For a while no file was parsed.
    """
    parsed, patience = 0, PROGRESS_SECONDS
    while True:
        try:
            return client.barrier(timeout=patience)
        except DeadlineExceeded:
            state = client.status()
            gets_on = state["parsed"] > parsed  # Saves meanwhile take it back, too.
            if not gets_on and patience == FIRST_PARSE_SECONDS:
                raise
            patience = PROGRESS_SECONDS if gets_on else FIRST_PARSE_SECONDS
            parsed = max(parsed, state["parsed"])
            if gets_on and state["awaited"]:
                work.console.line(f"  {parsed} of {state['files']} files parsed")


def attach(work: Workspace, *, allow_empty: bool, take_over: bool = False) -> int:
    """Show the saves of an environment that is up; Ctrl-C leaves it running."""
    environment = work.environment()
    if take_over:
        before = ControlClient(environment.control_socket).take_over()
        work.console.success("the sync is ours now" if before else "the sync was ours already")
        if before:
            work.console.line(f"  before: {before}")
    if allow_empty:
        ControlClient(environment.control_socket).allow_empty()
        work.console.success("the emptied folder is synced")
        return 0
    folder = environment.dags_folder
    greeting = f"watching {folder}; Ctrl-C leaves the environment running"
    try:
        return follow(work, environment, greeting=greeting, stops=False)
    except KeyboardInterrupt:
        return 0


def follow(
    work: Workspace,
    environment: Environment,
    *,
    greeting: str,
    stops: bool,
    left: threading.Event | None = None,
) -> int:
    """Print the feedback of each save until the environment ends or is interrupted.

    Args:
        work: The workspace.
        environment: Which is up.
        greeting: A line to print once no save is missed any more.
        stops: Whether this process stops the environment at its end.
        left: Set when nothing may be printed any more.

    Returns:
        An exit code.
    """
    from windsock.terminal.feedback import Feedback  # noqa: PLC0415 - only the loop needs it

    feedback = Feedback(work.console, work.places(environment))
    client = ControlClient(environment.control_socket)
    left = left or threading.Event()
    for event in events_of(work, client):
        if left.is_set():
            continue
        if isinstance(event, Attached):
            if greeting:
                work.console.line(greeting)
                greeting = ""
            else:
                with contextlib.suppress(WindsockError):  # Another command may have changed them.
                    feedback = Feedback(work.console, work.places(work.environment()))
            _show_troubles(client, feedback)
        feedback.show(event)
    if left.is_set():
        return 0
    if not stops or not work.was_up:
        work.console.line("the environment was stopped")
        return 0
    work.console.error(sync_is_gone(work))
    return EnvironmentFailure.exit_code


def sync_is_gone(work: Workspace) -> EnvironmentFailure:
    """The error of a sync process that has ended, with its last words."""
    words = last_lines(work.settings.state_folder / LOGS / "sync.log", LAST_WORDS)
    end = f"The end of its log:\n{words}\n" if words else ""
    return EnvironmentFailure(
        "the sync process is gone",
        f"{end}`invoke logs sync` shows more; `invoke up` starts what is missing.",
    )


def events_of(work: Workspace, client: ControlClient) -> Iterator[Event]:
    """All events from now on, until the environment is stopped or its sync does not come back.

    A sync process that is started again is attached to again; each time `Attached` is the first.
    """
    while True:
        yield from client.attach()
        # The sync process has ended: it is restarted after a crash, and gone after `invoke down`.
        if not _comes_back(work, client):
            return


def _show_troubles(client: ControlClient, feedback: Feedback) -> None:
    """Show what was told before this command attached, and still keeps saves or files back."""
    with contextlib.suppress(WindsockError):  # It has just ended; the caller finds out.
        state = client.status()
        for trouble in state.get("troubles", []):
            if (event := from_json(trouble)) is not None:
                feedback.show(event)
        feedback.show_unsynced(state.get("problems", {}))


def _comes_back(work: Workspace, client: ControlClient) -> bool:
    """Whether the sync process answers again; not waited for where `invoke down` took it away.

    While another command changes the environment it is waited for as long as that takes.
    """
    deadline = time.monotonic() + RESTART_SECONDS
    said = ""
    while work.was_up:
        if command := locked_by(work.settings.state_folder):
            deadline = time.monotonic() + RESTART_SECONDS
            if command != said:
                work.console.line(f"{command} changes the environment; waiting for it")
                said = command
        elif time.monotonic() >= deadline:
            return False
        try:
            client.status()
        except WindsockError:
            time.sleep(0.2)
        else:
            return True
    return False
