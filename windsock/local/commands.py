"""Run a tool to its end; an interrupt ends the tool and its children, too."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DISK_FULL = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The output of a tool, and how it ended.

    Attributes:
        code: Its exit status; negative if a signal ended it.
        output: Its standard output.
        errors: Its standard error.
    """

    code: int
    output: str
    errors: str

    @property
    def disk_full(self) -> bool:
        """Whether it ended because a disk is full."""
        return any(sign in self.errors or sign in self.output for sign in DISK_FULL)

    def last_lines(self, count: int = 20) -> str:
        """The end of its output, errors last."""
        lines = [line for line in (self.output + self.errors).splitlines() if line.strip()]
        return "\n".join(lines[-count:])


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path,
    user: tuple[int, int] | None = None,
    text: str = "",
    seconds: float | None = None,
    inherits: Sequence[int] = (),
) -> Finished:
    """Run a tool in a process group of its own; end the whole group if we cannot see its end.

    Args:
        command: The program and its arguments.
        environment: All of its environment.
        folder: Its working folder.
        user: The user and group id to run as; None means our own.
        text: What it reads on standard input.
        seconds: The longest it may take.
        inherits: File descriptors for the tool; a lock on one lasts until the tool has ended.

    Raises:
        EnvironmentFailure: It cannot be started.
        DeadlineExceeded: It took longer than `seconds`.
    """
    name = os.path.basename(command[0])  # noqa: PTH119 - a str or a Path
    try:
        child = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            pass_fds=inherits,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
        )
    except OSError as error:
        raise EnvironmentFailure(f"{name} cannot be started: {error}") from error
    try:
        output, errors = child.communicate(text.encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(child)
        raise DeadlineExceeded(f"{name} did not end within {seconds:g} s") from None
    except BaseException:
        _end(child)
        raise
    return Finished(
        code=child.returncode,
        output=output.decode(errors="replace"),
        errors=errors.decode(errors="replace"),
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
