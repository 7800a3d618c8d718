"""Bring Airflow's database to the version of the Airflow in a venv."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LINES_SHOWN = 15


def migrate(python: Path, *, variables: Mapping[str, str], folder: Path) -> None:
    """Run Airflow's migrations; a no-op costs 5 s.

    Args:
        python: Of the venv.
        variables: All of its environment; they name the database.
        folder: Its working folder.

    Raises:
        EnvironmentFailure: They failed; with the end of their output.
    """
    result = subprocess.run(
        [str(python), "-m", "airflow", "db", "migrate"],
        env=dict(variables),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        output = "\n".join((result.stdout + result.stderr).splitlines()[-LINES_SHOWN:])
        raise EnvironmentFailure("the database could not be migrated", output)
