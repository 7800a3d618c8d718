"""The machine's kubectl, 1.27 or newer: windsock renders kube/ with it, the suites look with it.

Debian 12 has 1.20. Debian 13's asks for nothing that Debian 12 lacks: it alone is installed, from
the same archive, where there is none or an older one.

`python -m tests.cluster.debian.kubectl` does this by itself, before anything else is installed: it
and what it imports need Python's own library only.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.debian import packages
from tests.cluster.debian.commands import Commands
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.terminal.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

OLDEST = (1, 27)
SUITE = "trixie"
"""Debian 13."""

HINT = "Get version 1.27 or newer: https://kubernetes.io/docs/tasks/tools"


def ensure(commands: Commands, progress: Callable[[str], None]) -> None:
    """Make sure that the kubectl of PATH is new enough.

    Args:
        commands: Runs apt.
        progress: Told if it is installed.

    Raises:
        EnvironmentFailure: It is not, and cannot be installed here.
    """
    before = version(commands)
    if before is not None and before >= OLDEST:
        return
    if not packages.may_install():
        raise EnvironmentFailure(_wrong(before), HINT)
    progress(f"{_wrong(before)}: installing that of Debian 13 …")
    _install(commands)
    after = version(commands)
    if after is None or after < OLDEST:
        # For example one that stands before it on PATH.
        raise EnvironmentFailure(f"{_wrong(after)}, also with Debian 13's installed", HINT)


def version(commands: Commands) -> tuple[int, int] | None:
    """Major and minor version of the kubectl of PATH; None if there is none that tells it."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    try:
        said = json.loads(commands.run(program, "version", "--client", "--output=json"))
        client = said["clientVersion"]
        major, minor = (re.sub(r"\D.*", "", client[part]) for part in ("major", "minor"))
        return int(major), int(minor)
    except (EnvironmentFailure, ValueError, KeyError, TypeError):
        return None


def _wrong(found: tuple[int, int] | None) -> str:
    program = shutil.which("kubectl")
    if program is None:
        return "kubectl is not installed"
    if found is None:
        return f"{program} does not tell its version"
    return f"kubectl {found[0]}.{found[1]} is too old ({program})"


def _install(commands: Commands) -> None:
    addresses = {
        each.address for each in packages.sources(commands) if each.suite == packages.SUITE
    }
    with tempfile.TemporaryDirectory() as work:
        lines = [f"deb {address} {SUITE} main" for address in sorted(addresses)]
        options = packages.only_from(commands, lines, folder=Path(work))
        packages.install(commands, ["kubectl"], options=("--no-remove", *options))


def main() -> int:
    """Make sure of it, and say which it is; returns the exit code."""
    console, commands = Console(), Commands()
    try:
        ensure(commands, console.line)
        found = version(commands)
    except WindsockError as error:
        console.error(error)
        return error.exit_code
    assert found is not None
    console.success(f"kubectl {found[0]}.{found[1]}: {shutil.which('kubectl')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
