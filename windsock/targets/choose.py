"""Which target an environment runs on."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from windsock.config import Settings
    from windsock.targets.base import Target


def target(settings: Settings) -> Target:
    """The target that the settings name; `auto` is `local`, the only one of this version."""
    from windsock.targets.local import LocalTarget  # noqa: PLC0415 - heavy, and others will follow

    return LocalTarget(settings, variables=dict(os.environ))


def explain(settings: Settings) -> str:
    """The choice in words."""
    if settings.target == "auto":
        return "local (auto: Airflow's own processes on this machine; needs no Docker, no cluster)"
    return settings.target


def airflow_version(settings: Settings) -> str:
    """The version of Airflow that the lock pins.

    Raises:
        ConfigurationError: The lock is missing or pins none.
    """
    lock = settings.project / "docker" / "requirements.lock"
    try:
        match = re.search(r"^apache-airflow==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError as error:
        raise ConfigurationError(f"{lock} cannot be read: {error.strerror}") from error
    if match is None:
        raise ConfigurationError(f"{lock} pins no apache-airflow", "Compile it anew.")
    return match[1]
