"""Airflow's connections, variables and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.commands.command import command, workspace
from windsock.commands.late import LateModule

if TYPE_CHECKING:
    from invoke import Context

    from windsock import flow
else:
    flow = LateModule("windsock.flow")


@command(help={"output": "The file to write; stdout when left out."})
def export(context: Context, output: str = "") -> None:
    """Write Airflow's connections, variables and pools as airflow_settings.yaml."""
    flow.settings_export(workspace(context), output=output)
