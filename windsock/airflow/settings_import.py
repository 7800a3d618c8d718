"""Import airflow_settings.yaml into an environment, once for each content."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.airflow import settings_export as objects
    from windsock.model import Environment

RECORD = "imported-settings.json"
DIGEST = "imported-settings.digest"


def import_settings(
    path: Path, environment: Environment, *, state_folder: Path
) -> objects.Changes | None:
    """Make Airflow's connections, variables and pools as the file says, if it changed.

    Args:
        path: Of the YAML file; one that was deleted takes away what it brought.
        environment: Whose Airflow to change.
        state_folder: Where it is remembered what was imported.

    Returns:
        What was done, or None if the file is as it was at the last import.

    Raises:
        ConfigurationError: The file cannot be used, or Airflow refuses an entry.
        EnvironmentFailure: Airflow does not answer.
    """
    # Here, so that a command that imports nothing does not pay for an HTTP client.
    from windsock.airflow import settings_export as objects  # noqa: PLC0415 - see above
    from windsock.airflow.api import Airflow  # noqa: PLC0415 - see above

    seen = state_folder / DIGEST
    digest = objects.digest(path)
    if (seen.read_text(encoding="utf-8") if seen.exists() else "") == digest:
        return None
    with Airflow.of(environment) as client:
        changes = objects.apply(objects.load(path), client, record=state_folder / RECORD)
    seen.write_text(digest, encoding="utf-8")
    return changes


def forget_imports(state_folder: Path) -> None:
    """A fresh database holds nothing of what was imported before."""
    for name in (RECORD, DIGEST):
        (state_folder / name).unlink(missing_ok=True)
