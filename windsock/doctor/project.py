"""Checks of the project: its DAG folder, its lock and its settings file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding, plural
from windsock.sync.rules import Rules
from windsock.sync.watch import LIMIT_HINT
from windsock.targets import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windsock.config import Settings

MOST_FILES = 50_000
"""Where counting ends: a folder with more is no DAG folder."""
INOTIFY = Path("/proc/sys/fs/inotify")


def dags(folder: Path, *, most: int = MOST_FILES) -> Iterator[Finding]:
    """Whether the DAG folder is there, and how many files are in it."""
    if not folder.is_dir():
        yield Finding(
            PROBLEM,
            f"the DAG folder {folder} does not exist",
            f"Make it with `mkdir -p {folder}`, or set `windsock.dags`.",
        )
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield Finding(
            PROBLEM, f"the DAG folder {folder} cannot be read", f"Try `chmod u+rx {folder}`."
        )
        return
    files, folders, unreadable = _count(folder, most)
    if files > most:
        yield Finding(
            WARNING,
            f"{folder} has more than {most} files",
            "Point `windsock.dags` at the DAGs alone, or list the rest in .windsockignore.",
        )
    else:
        yield Finding(OK, f"{folder}: {plural(files, 'file')} in {plural(folders, 'folder')}")
    if unreadable:
        yield Finding(
            WARNING,
            f"cannot be read: {', '.join(unreadable[:3])}",
            "Their files are not synced; check who owns them.",
        )


def _count(folder: Path, most: int = MOST_FILES) -> tuple[int, int, list[str]]:
    """The number of synced files, that of their folders, and the folders that cannot be read."""
    rules = Rules.load(folder)
    unreadable: list[str] = []
    files = folders = 0
    for place, below, names in os.walk(folder, onerror=lambda e: unreadable.append(e.filename)):
        prefix = os.path.relpath(place, folder).removeprefix(".")
        start = f"{prefix}/" if prefix else ""
        below[:] = [name for name in below if not rules.ignores(start + name, is_directory=True)]
        folders += 1
        files += sum(not rules.ignores(start + name, is_directory=False) for name in names)
        if files > most:
            break
    return files, folders, unreadable


def watches(folder: Path, *, limits: Path = INOTIFY) -> Iterator[Finding]:
    """Whether the kernel lets us watch every folder; only Linux has such a limit."""
    limit_file = limits / "max_user_watches"
    if not limit_file.exists() or not folder.is_dir():
        return
    limit = int(limit_file.read_text(encoding="ascii"))
    _, folders, _ = _count(folder)
    what = f"{plural(folders, 'folder')} to watch, {limit} allowed to this user's programs"
    # An editor that watches the same folders takes as many again.
    if 2 * folders > limit:
        yield Finding(WARNING, what, f"{LIMIT_HINT} Else the folder is scanned every second.")
    else:
        yield Finding(OK, what)


def airflow_settings(settings: Settings, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether airflow_settings.yaml can be used."""
    from windsock.airflow import settings_file  # noqa: PLC0415 - yaml only where it is used

    path = settings.path(settings.airflow_settings)
    if not path.exists():
        yield Finding(OK, f"no {path.name}: nothing to import")
        return
    entries = settings_file.read(path, environment=variables)
    counts = (
        plural(len(entries.connections), "connection"),
        plural(len(entries.variables), "variable"),
        plural(len(entries.pools), "pool"),
    )
    yield Finding(OK, f"{path.name}: {', '.join(counts)}")


def lock(settings: Settings) -> Iterator[Finding]:
    """The compiled requirements of Airflow, and the project's own."""
    yield Finding(OK, f"Airflow {versions.airflow_version(settings)}")
    extra = settings.path(settings.requirements)
    if not extra.exists():
        yield Finding(
            WARNING,
            f"{extra} does not exist: your DAGs get no further packages",
            "Make it, or set `windsock.requirements`.",
        )
