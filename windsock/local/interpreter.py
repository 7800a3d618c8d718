"""Find the Python that Airflow's venv is built on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.local.commands import run

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST, NEWEST = (3, 11), (3, 14)
"""The Python versions that docker/requirements.lock is compiled for and Airflow 3.3 supports."""

_ASK = "import json, sys; print(json.dumps([sys.version_info[:3], sys.executable]))"


def find_interpreter(python: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The interpreter's path and version, checked.

    Args:
        python: A path or a name for PATH; empty means the one that runs windsock.
        environment: Where PATH is looked up.

    Raises:
        ConfigurationError: It is no Python, or of a version that Airflow does not run on.
    """
    if not python:
        path, found = sys.executable, list(sys.version_info[:3])
    else:
        path = shutil.which(os.path.expanduser(python), path=environment.get("PATH")) or ""  # noqa: PTH111 - a name or a path
        if not path:
            raise ConfigurationError(
                f"windsock.local.python is {python!r}, which is no program",
                "Give the path of a Python, or leave it empty for the one that runs windsock.",
            )
        answer = run(
            [path, "-I", "-S", "-c", _ASK],
            environment=environment,
            folder=Path("/"),
            seconds=30,
        )
        try:
            found, path = json.loads(answer.output)
        except ValueError as error:
            raise ConfigurationError(
                f"windsock.local.python is {python!r}, which is no Python",
                answer.last_lines(5),
            ) from error
    version = ".".join(str(number) for number in found)
    if not OLDEST <= tuple(found[:2]) <= NEWEST:
        raise ConfigurationError(
            f"Airflow's venv cannot be built on Python {version}",
            f"It needs {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}: "
            "set `windsock.local.python` in invoke.yaml.",
        )
    return path, version
