"""All commands, for the tasks.py of a project: `invoke --list` names them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from invoke import Collection

from windsock import config
from windsock.commands import cluster, dags, environment, settings, testing
from windsock.commands.command import check_invoke_yaml, check_system

if TYPE_CHECKING:
    from pathlib import Path

    from invoke import Task


def group(name: str, **commands: Task[Any]) -> Collection:
    """Commands that are typed as `NAME.COMMAND`."""
    collection = Collection(name)
    for command, item in commands.items():
        collection.add_task(item, name=command)
    return collection


def of(project: Path) -> Collection:
    """The commands of a project.

    Args:
        project: Its folder, which holds tasks.py and invoke.yaml.

    Raises:
        Exit: invoke.yaml cannot be read, or this is Windows.
    """
    check_system(sys.platform)
    check_invoke_yaml(project / "invoke.yaml")
    commands = Collection(
        *(environment.up, environment.down, environment.status, environment.logs),
        *(environment.restart, environment.sync_, testing.test, testing.ci, environment.shell),
        *(environment.open_, environment.doctor_, environment.version),
        *(cluster.build, cluster.render, cluster.diff, cluster.deploy, cluster.secret),
    )
    commands.add_collection(
        group("dags", list=dags.list_, trigger=dags.trigger, errors=dags.errors, check=dags.check)
    )
    commands.add_collection(group("settings", export=settings.export))
    commands.configure({"windsock": config.defaults(), "project": str(project)})
    return commands
