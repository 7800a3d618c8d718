"""Which Airflow an environment runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from windsock.config import Settings


def airflow_version(settings: Settings) -> str:
    """The version of Airflow that the lock pins.

    Raises:
        ConfigurationError: The lock is missing or pins none.
    """
    try:
        text = settings.lock.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{settings.lock} cannot be read: {error.strerror}", "Compile it anew."
        ) from error
    match = re.search(r"^apache-airflow==(\S+)", text, re.MULTILINE)
    if match is None:
        raise ConfigurationError(f"{settings.lock} pins no apache-airflow", "Compile it anew.")
    return match[1]
