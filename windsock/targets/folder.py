"""The folders of an environment: its DAGs, checked first, and its state, removed last."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.console import Console
    from windsock.local.components import Layout


def check_dags_folder(folder: Path) -> None:
    """Make sure that there is a DAG folder that can be read.

    Raises:
        ConfigurationError: There is none.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"the DAG folder {folder} does not exist",
            f"Make it with `mkdir -p {folder}`, or name another one: `invoke up --dags PATH`.",
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigurationError(
            f"the DAG folder {folder} cannot be read", f"Try `chmod u+rx {folder}`."
        )


def remove_state(layout: Layout, console: Console) -> None:
    """Remove everything that windsock keeps on this machine for an environment.

    Raises:
        ConfigurationError: Something else is in the folder.
    """
    if layout.state.exists():
        layout.check_is_ours()
        with console.step(f"removed {layout.state}"):
            shutil.rmtree(layout.state)
