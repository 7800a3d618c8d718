"""The end-to-end tests of the DAGs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.flow.bringing_up import bring_up, say_differences
from windsock.flow.following import show_what_stands, sync_is_gone
from windsock.targets.folder import check_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from windsock.config import Settings
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment

PYTEST_NOTHING_RAN = 5
"""pytest's exit code when it collected no test."""

CLEAN_UP_SECONDS = 60.0
"""How long an interrupted pytest may take to stop the DAG runs of its tests."""


@dataclass(frozen=True, kw_only=True)
class TestRequest:
    """What `invoke test` was asked for."""

    paths: tuple[str, ...] = ()
    keyword: str = ""
    affected: str = ""
    watch: bool = False
    junit: str = ""
    parallel: int = 0

    def arguments(self, settings: Settings) -> list[str]:
        """The arguments for pytest."""
        options = [f"--windsock-state={settings.state_folder}"]
        if self.keyword:
            options += ["-k", self.keyword]
        if self.affected:
            options.append(f"--affected={self.affected}")
        if self.junit:
            options.append(f"--junit-xml={self.junit}")
        if self.parallel:
            options += ["-n", str(self.parallel), "--dist", "loadfile"]
        return [*options, *self.paths_in(settings)]

    def paths_in(self, settings: Settings) -> tuple[str, ...]:
        """The test files and folders."""
        return self.paths or (str(settings.path(settings.tests)),)


def test(work: Workspace, request: TestRequest) -> int:
    """Run the DAG tests, and with `watch` again after each change.

    Returns:
        pytest's exit code, but 0 when `affected` left no test to run.
    """
    environment = _what_is_up(work)
    if environment is None:
        work = work.as_it_is_up() if work.runs() else work  # What is left of it is only completed.
        check_folders(work.settings)
        work.console.line("no environment is up: bringing it up first (it stays up)")
        environment = bring_up(work, work.target())
    show_what_stands(work, environment)  # A test may miss a file for it.
    if request.watch:
        return _watch(work, request, environment)
    return _run_pytest(work, request)


def _what_is_up(work: Workspace) -> Environment | None:
    """The environment if all of it runs, whatever the settings are now; they are said."""
    if not (work.was_up and work.runs(whole=True)):
        return None
    if differences := work.differences():
        say_differences(work, differences)
        work.console.line("  it is used as it is; `invoke up` asks whether to change it")
    elif work.as_it_is_up().target().running() is None:
        work.console.warning(
            "what Airflow is built of or started with has changed: it is used as it is, and "
            "`invoke up` takes the change"
        )
    return work.environment()


def _watch(work: Workspace, request: TestRequest, environment: Environment) -> int:
    """Run the tests, and again for the newest state after each change, until Ctrl-C."""
    from windsock.flow.watching import Changes, WatchedFiles  # noqa: PLC0415 - only here

    paths = request.paths_in(work.settings)
    files = WatchedFiles(paths, project=work.settings.project, report=request.junit)
    changes = Changes(work, environment, files)
    code = WindsockError.exit_code  # As long as no test has run.
    try:
        changes.attach()
        while True:
            if changes.settle(timeout=work.settings.up_timeout):
                code = _run_pytest(work, request)
                changes.ran()
            work.console.line("waiting for the next save; Ctrl-C to stop")
            if not changes.wait():
                break
    except KeyboardInterrupt:
        work.console.line()
        return code
    if not work.was_up:
        work.console.line("the environment was stopped")
        return code
    work.console.error(sync_is_gone(work))
    return WindsockError.exit_code


def _run_pytest(work: Workspace, request: TestRequest) -> int:
    command = [sys.executable, "-m", "pytest", *request.arguments(work.settings)]
    code = run_to_its_end(command, folder=work.settings.project)
    if code == PYTEST_NOTHING_RAN and request.affected:
        work.console.success(f"no test is affected by the changes since {request.affected}")
        return 0
    return code


def run_to_its_end(command: Sequence[str], *, folder: Path) -> int:
    """Run a command in this terminal; an interrupt ends it, once it has cleaned up.

    Returns:
        Its exit code.

    Raises:
        KeyboardInterrupt: This process was interrupted or told to end.
    """
    with subprocess.Popen(command, cwd=folder) as child:
        before = signal.getsignal(signal.SIGTERM)
        in_main_thread = threading.current_thread() is threading.main_thread()

        def pass_on(*_: object) -> None:
            # Ctrl-C reaches the child too; SIGTERM is sent to this process alone.
            child.send_signal(signal.SIGINT)
            raise KeyboardInterrupt

        if in_main_thread:
            signal.signal(signal.SIGTERM, pass_on)
        try:
            return child.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
                child.wait(CLEAN_UP_SECONDS)  # pytest stops the DAG runs of its tests.
            raise
        finally:
            child.kill()
            if in_main_thread:
                signal.signal(signal.SIGTERM, before)


def ci(work: Workspace, *, junit: str) -> int:
    """Up, test, end; the end also when something fails. What was up before stays up."""
    if work.was_up and work.runs(whole=True):
        code = test(work, TestRequest(junit=junit))
        work.console.line("left running: it was up before; `invoke down` stops it")
        return code
    try:
        return test(work, TestRequest(junit=junit))
    finally:
        work.target().end(work.console)
