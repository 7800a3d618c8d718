"""The variables that a project gives to Airflow: its `.env`, and some of the shell.

They are the same on every target. Values may be secrets: only names are ever shown.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SHELL_PREFIXES = ("AIRFLOW_VAR_", "AIRFLOW_CONN_")
"""Airflow's own names of variables and connections: of the shell, these alone go to Airflow."""

WINDSOCKS_OWN = ("AIRFLOW_HOME", "PYTHON", "VIRTUAL_ENV", "WINDSOCK_")
"""What the names of variables begin with that windsock alone sets for Airflow's processes."""


def read_env_file(path: Path, shell: Mapping[str, str]) -> dict[str, str]:
    """The variables of a file as Astro's and Docker Compose's tools read it; none if it is missing.

    Args:
        path: Of the file.
        shell: The variables of this process. They win, and give a name without `=` its value.

    Raises:
        ConfigurationError: It cannot be read; the message names the line, and no value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", "It must be UTF-8.") from error
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise ConfigurationError(
                f"{path}:{binding.original.line}: this is no line of an environment file",
                "Write NAME=value, one a line; quote a value that has spaces or quotes in it.",
            )
    found = dotenv_values(stream=io.StringIO(text))
    wanted = {name: shell.get(name, value) for name, value in found.items()}
    return {name: value for name, value in wanted.items() if value is not None}


def project_variables(path: Path, shell: Mapping[str, str]) -> dict[str, str]:
    """What Airflow's processes get from the project and its author, on every target.

    Args:
        path: Of the environment file.
        shell: The variables of this process.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    given = {name: value for name, value in shell.items() if name.startswith(SHELL_PREFIXES)}
    found = {**given, **read_env_file(path, shell)}
    return {name: found[name] for name in sorted(found) if not name.startswith(WINDSOCKS_OWN)}


def ignored(path: Path, shell: Mapping[str, str], *, own: Collection[str]) -> list[str]:
    """The names in the file that have no effect: windsock sets them itself.

    Args:
        path: Of the environment file.
        shell: The variables of this process.
        own: The names that windsock sets.
    """
    names = read_env_file(path, shell)
    return sorted(name for name in names if name in own or name.startswith(WINDSOCKS_OWN))
