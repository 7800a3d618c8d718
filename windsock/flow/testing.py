"""The end-to-end tests of the DAGs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.events import Sent, Settled
from windsock.flow.bringing_up import bring_up
from windsock.sync_process.control import ControlClient
from windsock.targets.folder import check_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.config import Settings
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment

PYTEST_NOTHING_RAN = 5
"""pytest's exit code when it collected no test."""


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
        paths = self.paths or (str(settings.path(settings.tests)),)
        options = [f"--windsock-state={settings.state_folder}"]
        if self.keyword:
            options += ["-k", self.keyword]
        if self.affected:
            options.append(f"--affected={self.affected}")
        if self.junit:
            options.append(f"--junit-xml={self.junit}")
        if self.parallel:
            options += ["-n", str(self.parallel), "--dist", "loadfile"]
        return [*options, *paths]


def test(work: Workspace, request: TestRequest) -> int:
    """Run the DAG tests, and with `watch` again on each save.

    Returns:
        pytest's exit code, but 0 when `affected` left no test to run.
    """
    check_folders(work.settings)
    target = work.target()
    environment = target.running()
    if environment is None:
        work.console.line("no environment is up: bringing it up first (it stays up)")
        environment = bring_up(work, target)
    code = _run_pytest(work, request)
    if not request.watch:
        return code
    try:
        for _ in _settled_saves(environment):
            code = _run_pytest(work, request)
            work.console.line("waiting for the next save; Ctrl-C to stop")
    except KeyboardInterrupt:
        return code
    return code


def _run_pytest(work: Workspace, request: TestRequest) -> int:
    command = [sys.executable, "-m", "pytest", *request.arguments(work.settings)]
    code = subprocess.call(command, cwd=work.settings.project)
    if code == PYTEST_NOTHING_RAN and request.affected:
        work.console.success(f"no test is affected by the changes since {request.affected}")
        return 0
    return code


def _settled_saves(environment: Environment) -> Iterator[str]:
    """The snapshot of each save, once Airflow has parsed it whole."""
    sent: set[str] = set()
    for event in ControlClient(environment.control_socket).attach():
        match event:
            case Sent(snapshot=snapshot):
                sent.add(snapshot)
            case Settled(snapshot=snapshot) if snapshot in sent:
                sent.clear()
                yield snapshot


def ci(work: Workspace, *, junit: str) -> int:
    """Up, test, end; the end also when something fails."""
    try:
        return test(work, TestRequest(junit=junit))
    finally:
        work.target().end(work.console)
