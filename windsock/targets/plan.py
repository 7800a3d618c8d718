"""The plan of `invoke up`: what each step does, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from windsock.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from windsock.terminal.console import Console


class Action(StrEnum):
    """What a step does."""

    MAKE = "make"
    CHANGE = "change"
    START = "start"
    NONE = "there"


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        what: What is made, changed or started.
        action: What is done.
        why: The reason; may be empty where nothing is done.
        seconds: About how long it takes; None if that is not known.
    """

    what: str
    action: Action
    why: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class UpStep:
    """One step of `invoke up`.

    Attributes:
        plan: Looks at what is there, and changes nothing; `--dry-run` prints the answer.
        run: Does what `plan` names. Where nothing is to be done it changes nothing that runs.
    """

    plan: Callable[[], PlannedStep]
    run: Callable[[Console], None]


def run_steps(steps: Iterable[UpStep], console: Console) -> None:
    """Run these steps, one after the other."""
    for step in steps:
        step.run(console)


def nothing_to_do(steps: Iterable[UpStep]) -> bool:
    """Whether everything is there; looks no further than the first step that is not."""
    return all(step.plan().action is Action.NONE for step in steps)


class Record:
    """The digest of what was done last, in a file: it says whether something has changed since.

    Args:
        file: In a folder that exists when the digest is saved.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str:
        """The digest; empty if nothing was done yet."""
        try:
            return self._file.read_text(encoding="utf-8")
        except OSError:
            return ""

    def action(self, digest: str) -> Action:
        """What must be done so that this is what was done last."""
        last = self.read()
        if last == digest:
            return Action.NONE
        return Action.CHANGE if last else Action.MAKE

    def save(self, digest: str) -> None:
        """Record that exactly this was done."""
        write_whole(self._file, digest)

    def clear(self) -> None:
        """Remove the record: something is about to change."""
        self._file.unlink(missing_ok=True)
