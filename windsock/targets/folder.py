"""The folders of an environment: its DAGs, checked first, and its state, removed last."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windsock.config import Settings
    from windsock.local.components import Layout
    from windsock.terminal.console import Console


def check_folders(settings: Settings) -> None:
    """Make sure that every folder that is synced is there and can be read.

    Raises:
        ConfigurationError: One is not.
    """
    _check(settings.dags_folder, "the DAG folder", or_else="another one: `invoke up --dags PATH`")
    for folder in settings.further_folders.values():
        _check(folder, "the folder", or_else="another one in invoke.yaml: `sync.folders`")


def _check(folder: Path, title: str, *, or_else: str) -> None:
    if not folder.is_dir():
        raise ConfigurationError(
            f"{title} {folder} does not exist",
            f"Make it with `mkdir -p {folder}`, or name {or_else}.",
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigurationError(f"{title} {folder} cannot be read", f"Try `chmod u+rx {folder}`.")


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
