"""The settings that an environment was brought up with: other commands use it as it is.

The flags and variables of that `up` are known to no other command, so they are recorded.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from windsock import config
from windsock.errors import WindsockError
from windsock.files import write_whole
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.config import Settings

FILE = "settings.json"
VARIABLES = "variables"
"""In the record, besides the settings: the project's variables."""

OF_A_COMMAND = ("state", "target", "rebuild", "tests", "up_timeout")
"""What each command decides for itself: it changes nothing that runs."""
OF_A_COMMAND_ON_A_CLUSTER = ("context", "allowed_contexts", "skip_unserved", "take_over")
"""The same, of the settings below `cluster`; `target.json` has the context."""
PATHS = ("dags", "airflow_settings", "requirements")


def save(settings: Settings, variables: Mapping[str, str]) -> None:
    """Record the settings of what is up. They may contain secrets: only their owner may read them.

    Args:
        settings: Of what is up.
        variables: What its Airflow got from the project and its author.

    Raises:
        EnvironmentFailure: They cannot be written.
    """
    values = {**_values(settings), VARIABLES: dict(variables)}
    write_whole(settings.state_folder / FILE, json.dumps(values, indent=2) + "\n")


def load(settings: Settings) -> Settings | None:
    """The settings of what is, or was, up; those of a command itself are taken from `settings`.

    None if there is no record, or one of another version of windsock, which cannot be used.
    """
    now = _values(settings)
    try:
        values = json.loads((settings.state_folder / FILE).read_text(encoding="utf-8"))
        values.pop(VARIABLES, None)
        values |= {name: now[name] for name in OF_A_COMMAND}
        values["cluster"] |= {name: now["cluster"][name] for name in OF_A_COMMAND_ON_A_CLUSTER}
        return config.load(values, project=settings.project)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, WindsockError):
        return None


def changed_variables(settings: Settings, wanted: Mapping[str, str]) -> list[str]:
    """The names of the project's variables that what is up has otherwise; none without a record."""
    try:
        values = json.loads((settings.state_folder / FILE).read_text(encoding="utf-8"))
        up: dict[str, str] = values[VARIABLES]
        return sorted(name for name in {*up, *wanted} if up.get(name) != wanted.get(name))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def differences(up: Settings, wanted: Settings) -> list[str]:
    """What is up otherwise than it is wanted, each as "parse.interval is 60, not 30".

    Values below `airflow` are not named: they may be secrets.
    """
    location = Location.load(up.state_folder)
    unused = "local." if location is not None and location.context else "cluster."
    before, now = _flat(_compared(up)), _flat(_compared(wanted))
    return [
        f"{name} is another one"
        if name.startswith("airflow.")
        else f"{name} is {before.get(name, 'not set')}, not {now.get(name, 'set')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and not name.startswith(unused)
    ]


def _values(settings: Settings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    del values["project"]
    return values


def _compared(settings: Settings) -> dict[str, Any]:
    values = _values(settings)
    for name in OF_A_COMMAND:
        del values[name]
    for name in OF_A_COMMAND_ON_A_CLUSTER:
        del values["cluster"][name]
    paths = {name: str(settings.path(values[name]).resolve()) for name in PATHS}
    return {**values, **paths}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
