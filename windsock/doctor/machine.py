"""Checks of the machine: its Python, disk, memory, clock and tools."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding
from windsock.errors import WindsockError
from windsock.local.commands import run
from windsock.local.database_folder import programs_folder
from windsock.local.interpreter import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from windsock.local.components import Layout

GIBIBYTE = 1024**3
FREE_SPACE = 2 * GIBIBYTE
"""Airflow's venv takes about 1 GiB, the database and logs of some weeks as much again."""
LITTLE_SPACE = GIBIBYTE // 4
"""With less than this even an environment that is built soon fails."""
FREE_MEMORY = GIBIBYTE
"""Airflow's four components need about as much."""
SKEW = 120.0
"""Seconds by which the clocks of file systems may differ."""
EARLIEST = 1767225600.0
"""2026-01-01: windsock is younger."""
TOOL_SECONDS = 1.5
CGROUP = Path("/sys/fs/cgroup")

# The arguments that print a version on one line, offline. tilt and okteto are not run: they may
# report their use to their makers, and windsock sends nothing from this machine unasked.
TOOLS: dict[str, tuple[str, ...]] = {
    "git": ("--version",),
    "docker": ("--version",),
    "kubectl": ("version", "--client"),
    "kind": ("--version",),
    "tilt": (),
    "okteto": (),
}


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
    yield Finding(OK, f"{_version(path, ('--version',), variables, TOOL_SECONDS)} ({path})")


def postgres() -> Iterator[Finding]:
    """The programs of the embedded PostgreSQL."""
    yield Finding(OK, str(programs_folder()))


def disk(
    layout: Layout, *, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Finding]:
    """Space for the state folder, and the right to write there."""
    place = next(path for path in (layout.state, *layout.state.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            PROBLEM, f"{place} cannot be written", "Set `windsock.state` to a folder that can."
        )
        return
    space = free(place)
    what = f"{space / GIBIBYTE:.1f} GiB free for {layout.state}"
    built = layout.database.exists()
    if space >= FREE_SPACE:
        yield Finding(OK, what)
    else:
        yield Finding(
            WARNING if built and space >= LITTLE_SPACE else PROBLEM,
            what,
            "Free some space: a new environment needs 2 GiB. `invoke down --volumes` removes all "
            "files of this one.",
        )


def memory(*, control_group: Path = CGROUP) -> Iterator[Finding]:
    """Memory for Airflow's components: the machine's, or the container's where that is less."""
    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    # No control group, or its limit is the word `max`.
    with suppress(OSError, ValueError):
        limit = int((control_group / "memory.max").read_text(encoding="ascii"))
        used = int((control_group / "memory.current").read_text(encoding="ascii"))
        total, available = min(total, limit), min(available, max(0, limit - used))
    what = f"{available / GIBIBYTE:.1f} of {total / GIBIBYTE:.1f} GiB available"
    if available >= FREE_MEMORY:
        yield Finding(OK, what)
    else:
        yield Finding(
            WARNING,
            what,
            "Airflow needs about 1 GiB: end something, or lower `windsock.local.parallelism`.",
        )


def clock(files: Iterable[Path], *, now: float) -> Iterator[Finding]:
    """Whether the clock (seconds since the epoch) is behind files that were written earlier."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    advice = "Set the clock: tokens, schedules and logs of Airflow depend on it."
    if now < EARLIEST:
        yield Finding(PROBLEM, f"the clock shows {shown}", advice)
        return
    for path in files:
        if path.exists() and path.stat().st_mtime > now + SKEW:
            yield Finding(WARNING, f"the clock shows {shown}, but {path} is younger", advice)
            return
    yield Finding(OK, shown)


NEEDED = {
    "kind": ("kind", "kubectl"),
    "context": ("kubectl",),
    "okteto": ("okteto", "kubectl"),
}
"""Target → the tools without which it cannot be brought up."""


def tools(
    variables: Mapping[str, str], *, needed: Collection[str] = (), seconds: float = TOOL_SECONDS
) -> Iterator[Finding]:
    """Programs on PATH that windsock can use; some targets need some of them."""
    paths = {name: shutil.which(name, path=variables.get("PATH")) for name in TOOLS}
    found = {name: path for name, path in paths.items() if path}
    missing = [name for name in TOOLS if name not in found and name != "git"]
    if "git" not in found:
        yield Finding(WARNING, "git is not found", "`invoke test --affected REF` needs it.")
    if found:
        with ThreadPoolExecutor(max_workers=len(found)) as pool:
            versions = pool.map(
                lambda name: _version(found[name], TOOLS[name], variables, seconds), found
            )
        shown = [
            version or f"{name} ({path})"
            for version, (name, path) in zip(versions, found.items(), strict=True)
        ]
        yield Finding(OK, "; ".join(shown))
    if lacking := [name for name in missing if name in needed]:
        yield Finding(
            PROBLEM,
            f"not found, and needed for this target: {', '.join(lacking)}",
            "Install what is missing, or use this machine alone: `--target local`.",
        )
    if spare := [name for name in missing if name not in needed]:
        yield Finding(OK, f"not found, and not needed for this target: {', '.join(spare)}")


def _version(
    path: str, arguments: tuple[str, ...], variables: Mapping[str, str], seconds: float
) -> str:
    """The first line that a tool prints; empty if it prints none in time."""
    if not arguments:
        return ""
    try:
        done = run([path, *arguments], environment=variables, folder=Path("/"), seconds=seconds)
    except WindsockError:
        return ""
    name = Path(path).name
    line = next(iter(done.output.splitlines()), "").strip() if done.code == 0 else ""
    return line if not line or name in line.lower() else f"{name}: {line}"
