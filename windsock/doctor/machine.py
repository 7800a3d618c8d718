"""Checks of the machine: its Python, disk, memory, clock and tools."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding
from windsock.errors import WindsockError
from windsock.local.commands import run
from windsock.local.database_folder import programs_folder
from windsock.local.interpreter import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from windsock.local.components import Layout

GIBIBYTE = 1024**3
FREE_SPACE = 2 * GIBIBYTE
"""Airflow's venv takes about 1 GiB, the database and logs of some weeks as much again."""
LITTLE_SPACE = GIBIBYTE // 4
"""With less than this even a built environment soon stands still."""
FREE_MEMORY = GIBIBYTE
"""Airflow's four components need about as much."""
SKEW = 120.0
"""Seconds; file systems and clocks are not of one mind below that."""
EARLIEST = 1767225600.0
"""2026-01-01: windsock is younger."""
TOOL_SECONDS = 1.5

# The arguments that print a version on one line, offline. tilt and okteto are not run: their
# commands may report their use to their makers, and nothing leaves this machine unasked.
TOOLS: Mapping[str, tuple[str, ...]] = {
    "git": ("--version",),
    "docker": ("--version",),
    "kubectl": ("version", "--client"),
    "kind": ("--version",),
    "tilt": (),
    "okteto": (),
}
CGROUP = Path("/sys/fs/cgroup")


def python(wanted: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    """The interpreter that Airflow's venv is built on."""
    path, version = find_interpreter(wanted, variables)
    yield Finding(OK, f"{version} ({path})")


def uv(variables: Mapping[str, str]) -> Iterator[Finding]:
    """The program that builds the venv."""
    from uv import find_uv_bin  # noqa: PLC0415 - its absence is a finding

    try:
        path = find_uv_bin()
    except FileNotFoundError:
        yield Finding(
            PROBLEM,
            "uv is not found: Airflow's venv cannot be built",
            "Install windsock's requirements again: `pip install -r requirements.txt`.",
        )
        return
    yield Finding(OK, f"{_version(path, ('--version',), variables)} ({path})")


def postgres() -> Iterator[Finding]:
    """The programs of the embedded PostgreSQL."""
    yield Finding(OK, str(programs_folder()))


def disk(
    layout: Layout, *, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Finding]:
    """Space for the state folder, and the right to write there.

    Args:
        layout: Names the state folder; it need not exist.
        free: Bytes that are free at a path.
    """
    place = next(path for path in (layout.state, *layout.state.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            PROBLEM, f"{place} cannot be written", "Set `windsock.state` to a folder that can."
        )
        return
    space = free(place)
    said = f"{space / GIBIBYTE:.1f} GiB free for {layout.state}"
    built = layout.database.exists()
    if space >= FREE_SPACE:
        yield Finding(OK, said)
    else:
        yield Finding(
            WARNING if built and space >= LITTLE_SPACE else PROBLEM,
            said,
            "Free some space: a new environment needs 2 GiB. `invoke down --volumes` removes all "
            "that this one holds.",
        )


def memory(*, limit: Callable[[], tuple[int, int]] | None = None) -> Iterator[Finding]:
    """Memory for Airflow's components.

    Args:
        limit: Tells the total and the available bytes; the machine's own by default.
    """
    total, available = (limit or _memory)()
    said = f"{available / GIBIBYTE:.1f} of {total / GIBIBYTE:.1f} GiB available"
    if available >= FREE_MEMORY:
        yield Finding(OK, said)
    else:
        yield Finding(
            WARNING,
            said,
            "Airflow needs about 1 GiB: end something, or lower `windsock.local.parallelism`.",
        )


def _memory() -> tuple[int, int]:
    """The machine's memory, or the container's where that is less."""
    found = psutil.virtual_memory()
    total, available = int(found.total), int(found.available)
    try:
        most = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or its limit is the word `max`
        return total, available
    return min(total, most), min(available, max(0, most - used))


def clock(files: Iterable[os.PathLike[str]], *, now: float) -> Iterator[Finding]:
    """Whether the clock is behind what was written before now.

    Args:
        files: Written earlier; those that do not exist are passed over.
        now: Seconds since the epoch.
    """
    said = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    advice = "Set the clock: tokens, schedules and logs of Airflow depend on it."
    if now < EARLIEST:
        yield Finding(PROBLEM, f"the clock says {said}", advice)
        return
    for file in files:
        path = Path(file)
        if path.exists() and path.stat().st_mtime > now + SKEW:
            yield Finding(WARNING, f"the clock says {said}, but {path} is younger", advice)
            return
    yield Finding(OK, said)


def tools(
    variables: Mapping[str, str], *, wanted: Mapping[str, tuple[str, ...]] = TOOLS
) -> Iterator[Finding]:
    """Programs that windsock can use; the local target needs none of them.

    Args:
        variables: The environment variables; PATH is looked up there.
        wanted: Name → the arguments that make it tell its version; none to leave it alone.
    """
    found = {name: shutil.which(name, path=variables.get("PATH")) for name in wanted}
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        versions = dict(
            zip(
                wanted,
                pool.map(lambda name: _version(found[name], wanted[name], variables), list(wanted)),
                strict=True,
            )
        )
    if "git" in wanted and found["git"] is None:
        yield Finding(WARNING, "git is not found", "`invoke test --affected REF` needs it.")
    there = [versions[name] or f"{name} ({path})" for name, path in found.items() if path]
    missing = [name for name, path in found.items() if path is None and name != "git"]
    if there:
        yield Finding(OK, "; ".join(there))
    if missing:
        yield Finding(OK, f"not here, and not needed locally: {', '.join(missing)}")


def _version(path: str | None, arguments: tuple[str, ...], variables: Mapping[str, str]) -> str:
    """The first line that a tool says of itself; empty if it says none in time."""
    if path is None or not arguments:
        return ""
    try:
        told = run(
            [path, *arguments], environment=variables, folder=Path("/"), seconds=TOOL_SECONDS
        )
    except WindsockError:
        return ""
    name = Path(path).name
    line = next(iter(told.output.splitlines()), "").strip() if told.code == 0 else ""
    return line if not line or name in line.lower() else f"{name}: {line}"
