"""A machine whose programs say what a test wants them to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.debian.commands import Commands
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping


class Recorded(Commands):
    """Commands that are written down instead of run.

    Args:
        says: Program, without its folder → what it says; all others are not there.
    """

    def __init__(self, says: Mapping[str, str]) -> None:
        super().__init__()
        self.says = dict(says)
        self.ran: list[list[str]] = []

    def run(
        self,
        *arguments: str | Path,
        folder: Path | None = None,  # noqa: ARG002 - as the real one
        environment: Mapping[str, str] | None = None,  # noqa: ARG002 - as the real one
        given: str = "",  # noqa: ARG002 - as the real one
    ) -> str:
        program = Path(arguments[0]).name
        self.ran.append([program, *map(str, arguments[1:])])
        if program not in self.says:
            raise EnvironmentFailure(f"{program} cannot be run")
        return self.says[program]
