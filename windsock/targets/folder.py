"""The folders of an environment: its DAGs, checked first, and its state, removed last."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.sync.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windsock.config import Settings
    from windsock.local.components import Layout
    from windsock.terminal.console import Console


def check_folders(settings: Settings) -> None:
    """Make sure that every folder that is synced is there and can be read, as can its rules.

    Raises:
        ConfigurationError: One is not.
    """
    _check(settings.dags_folder, "the DAG folder", or_else="another one: `invoke up --dags PATH`")
    for folder in settings.further_folders.values():
        _check(folder, "the folder", or_else="another one in invoke.yaml: `sync.folders`")


def _check(folder: Path, title: str, *, or_else: str) -> None:
    if not folder.exists():
        nearest = _nearest(folder)
        raise ConfigurationError(
            f"{title} {folder} does not exist" + (f"; {nearest} does" if nearest else ""),
            f"Make it with `mkdir -p {folder}`, or name {or_else}.",
        )
    if not folder.is_dir():
        raise ConfigurationError(f"{title} {folder} is no folder", f"Name {or_else}.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigurationError(f"{title} {folder} cannot be read", f"Try `chmod u+rx {folder}`.")
    Rules.load(folder)


def _nearest(folder: Path) -> Path | None:
    """A folder next to one that does not exist, whose name is nearly the same; None without one."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        # The mistake may be in the name of the folder above.
        above = None if folder.parent == folder else _nearest(folder.parent)
        found = above / folder.name if above is not None else None
        return found if found is not None and found.is_dir() else None
    by_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches(folder.name.lower(), by_case, n=1)
    return folder.parent / by_case[near[0]] if near else None


@contextmanager
def links(folders: Mapping[str, Path]) -> Iterator[Path]:
    """A folder for a while, in which each of these folders is found by its name.

    Args:
        folders: Name → folder.
    """
    with tempfile.TemporaryDirectory(prefix="windsock-") as place:
        for name, folder in folders.items():
            Path(place, name).symlink_to(folder, target_is_directory=True)
        yield Path(place)


def remove_state(layout: Layout, console: Console) -> None:
    """Remove everything that windsock has made on this machine for an environment.

    Raises:
        ConfigurationError: Something else is in the folder.
    """
    if layout.state.exists():
        layout.check_is_ours()
        with console.step(f"removed {layout.state}"):
            shutil.rmtree(layout.state)
