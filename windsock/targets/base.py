"""What every target can do. The commands are made of these protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from windsock.model import Environment
    from windsock.targets.plan import UpStep
    from windsock.terminal.console import Console


class Target(Protocol):
    """Brings an environment up, and takes it down."""

    name: str

    def running(self) -> Environment | None:
        """The environment when no step of `deploy` has anything to do, else None; quick."""

    def for_rebuild(self) -> Target:
        """A target of the files as they are now, with the same settings, that takes nothing over.

        This one can still be deployed as it was.
        """

    def locked(self) -> AbstractContextManager[None]:
        """Have the lock of the state folder, and write down where the environment is.

        Raises:
            EnvironmentFailure: Another command is bringing it up.
        """

    def prepare(self) -> Sequence[UpStep]:
        """Get the software in place: a venv, or images. What runs is not touched.

        These steps are needed only where one of `deploy` has something to do.
        """

    def deploy(self) -> Sequence[UpStep]:
        """Start the database and all components, or change what is outdated."""

    def wait(self, console: Console) -> Environment:
        """Wait until everything is healthy and the environment can be used."""

    def sources(self) -> Sequence[Path]:
        """The files of the project that Airflow is built of, on any target.

        Raises:
            ConfigurationError: One names a file that does not exist.
        """

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done on this target when these files have changed; empty if nothing."""

    def give_up(self, console: Console) -> None:
        """Bringing it up has failed or was interrupted: leave nothing half up on this machine."""

    def end(self, console: Console) -> None:
        """Stop what `up` or `ci` brought up; what others deployed goes on without this machine."""

    def down(self, console: Console, *, volumes: bool) -> None:
        """Stop everything; with `volumes` also remove what it stored."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """The state of one component, for `invoke status`.

    Attributes:
        name: For example `scheduler`.
        state: `running`, `starting`, `stopped` or `failed`.
        detail: What else a person wants to know: a pid, an uptime, why it failed.
        healthy: None where the component reports no health.
    """

    name: str
    state: str
    detail: str
    healthy: bool | None = None


class Operations(Protocol):
    """What can be done with an environment that is up."""

    @property
    def component_names(self) -> Sequence[str]:
        """The names that `logs` and `restart` take."""

    def status(self, *, health: bool = True) -> list[Component]:
        """The state of every component; none if nothing is up.

        Args:
            health: Whether Airflow is asked for it, which takes its time where it does not answer.
        """

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        """Log lines of one component, or of all with their names before them."""

    def restart(self, console: Console, component: str | None) -> None:
        """Restart one component or all of them, and wait until it is healthy."""

    def shell(self, command: Sequence[str]) -> int:
        """Run a command (or an interactive shell) in Airflow's environment; its exit code."""


class Checker(Protocol):
    """Imports DAGs without a running Airflow."""

    def prepare(self, console: Console) -> None:
        """Get the software in place."""

    def check(self, folder: str, *, progress: Callable[[str], None]) -> Generator[dict[str, Any]]:
        """Import every DAG below `folder`; an outcome a file.

        Args:
            folder: The DAG folder.
            progress: Told how far it is, in words.
        """
