"""The variables that a project gives to Airflow: its `.env`, and some of the shell.

They are the same on every target. Values may be secrets: only names are ever shown.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from dotenv.parser import parse_stream
from dotenv.variables import parse_variables

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from dotenv.parser import Binding

SHELL_PREFIXES = ("AIRFLOW_VAR_", "AIRFLOW_CONN_")
"""Airflow's own names of variables and connections: of the shell, these alone go to Airflow."""

WINDSOCKS_OWN = (
    *("AIRFLOW_CONFIG", "AIRFLOW_HOME", "AIRFLOW_TEST_MODE"),
    *("PYTHON", "VIRTUAL_ENV", "WINDSOCK_"),
)
"""What the names of variables begin with that windsock alone sets for Airflow's processes."""

THE_MACHINES = ("HOME", "HOSTNAME", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR", "USER")
"""Variables of the machine, or the container, that a process runs on: those of the author's shell
are wrong elsewhere, and another PATH here is one without Airflow's programs."""


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
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise ConfigurationError(
                f"{path}:{binding.original.line}: this is no line of an environment file",
                "Write NAME=value, one a line; quote a value that has spaces or quotes in it.",
            )
        if binding.key is not None:
            value = shell.get(binding.key, _value(binding, {**found, **shell}))
            if value is not None:
                found[binding.key] = value
    return found


def _value(binding: Binding, variables: Mapping[str, str]) -> str | None:
    """The value of a line, with `${NAME}` replaced; in single quotes it is literal."""
    literal = binding.original.string.partition("=")[2].lstrip().startswith("'")
    if binding.value is None or literal:
        return binding.value
    return "".join(atom.resolve(variables) for atom in parse_variables(binding.value))


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
    return {name: found[name] for name in sorted(found) if not _taken(name)}


def ignored(path: Path, shell: Mapping[str, str], *, own: Collection[str]) -> list[str]:
    """The names in the file that have no effect: windsock or the machine sets them.

    Args:
        path: Of the environment file.
        shell: The variables of this process.
        own: The names that windsock sets.
    """
    names = read_env_file(path, shell)
    return sorted(name for name in names if name in own or _taken(name))


def _taken(name: str) -> bool:
    return name.startswith(WINDSOCKS_OWN) or name in THE_MACHINES
