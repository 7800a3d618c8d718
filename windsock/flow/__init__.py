"""What each command does, as one visible sequence of steps."""

from windsock.flow.bringing_up import bring_up, deploy, down, join, secret, up
from windsock.flow.checking import dags_check
from windsock.flow.dags import (
    dags_errors,
    dags_list,
    settings_export,
)
from windsock.flow.following import attach
from windsock.flow.looking import logs, open_ui, restart, shell, status, version
from windsock.flow.manifests import build, diff, render
from windsock.flow.testing import TestRequest, ci, test
from windsock.flow.triggering import dags_trigger
from windsock.flow.workspace import Workspace, airflow_client

__all__ = [
    "TestRequest",
    "Workspace",
    "airflow_client",
    "attach",
    "bring_up",
    "build",
    "ci",
    "dags_check",
    "dags_errors",
    "dags_list",
    "dags_trigger",
    "deploy",
    "diff",
    "down",
    "join",
    "logs",
    "open_ui",
    "render",
    "restart",
    "secret",
    "settings_export",
    "shell",
    "status",
    "test",
    "up",
    "version",
]
