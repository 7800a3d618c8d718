"""Import DAGs by Airflow's venv, without a running Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from windsock.airflow import settings as airflow_settings
from windsock.errors import EnvironmentFailure
from windsock.local.components import ensure_runtime, inherited_variables
from windsock.targets.folder import links
from windsock.targets.local.printed import Printed
from windsock.terminal.words import some

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from windsock.config import Settings
    from windsock.targets.local.parts import LocalParts
    from windsock.terminal.console import Console

FILES_SHOWN = 3
"""How many of the files that are being imported a line of progress names."""

GRACE = 10.0
"""Seconds in which Airflow's own timeout, which knows the line, comes before the kill."""


class LocalChecker:
    """Imports the DAGs of a project.

    Args:
        parts: Of the environment, which need not be up.
    """

    def __init__(self, parts: LocalParts) -> None:
        self._parts = parts

    def prepare(self, console: Console) -> None:
        """Build Airflow's venv if its requirements changed."""
        self._parts.build_venv(console)

    def check(self, folder: str, *, progress: Callable[[str], None]) -> Generator[dict[str, Any]]:
        """Import every DAG below `folder`; an outcome a file."""
        parts = self._parts
        parse = parts.settings.parse
        command = [
            str(parts.ready_venv().python), "-m", "windsock.runtime.check", folder,
            f"--timeout={parse.import_timeout + GRACE}", f"--memory={parse.memory_limit_mb}",
            f"--processes={parse.processes}",
        ]  # fmt: skip
        given = parts.project_variables
        variables = {
            **inherited_variables(parts.variables),
            # A DAG file that reads a variable must not ask the database of another Airflow.
            **{name: given[name] for name in given if not name.startswith("AIRFLOW__DATABASE__")},
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(parts.layout.home / "check"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "1000",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(parse.import_timeout),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",  # Each error is an outcome already.
        }
        with links(parts.settings.further_folders) as further:
            # Where Python and Airflow find what DAG files import from other folders.
            variables["PYTHONPATH"] = f"{ensure_runtime(parts.layout)}{os.pathsep}{further}"
            variables["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(further / airflow_settings.PLUGINS)
            printed = Printed()
            with subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=printed.writer,
                text=True,
            ) as child:
                printed.read()
                if child.stdout is None:
                    raise AssertionError("the pipe was asked for")
                try:
                    for line in child.stdout:
                        told = json.loads(line)
                        if "importing" in told:
                            progress(_progress(told))
                        else:
                            yield _in_their_folders(told, further, parts.settings)
                except BaseException:
                    # As Ctrl-C does, which reaches the child by itself: it ends its own children.
                    child.send_signal(signal.SIGINT)
                    child.communicate()
                    raise
        if child.returncode != 0:
            raise EnvironmentFailure("the DAGs could not be checked", printed.end())


def _progress(told: dict[str, Any]) -> str:
    importing = some(told["importing"], most=FILES_SHOWN)
    return f"{told['done']} of {told['files']} files; importing {importing}"


def _in_their_folders(outcome: dict[str, Any], further: Path, settings: Settings) -> dict[str, Any]:
    """An outcome whose errors name the files of further folders where their author has them."""
    for name, folder in settings.further_folders.items():
        outcome["errors"] = {
            path: trace.replace(f"{further / name}/", f"{folder}/")
            for path, trace in outcome["errors"].items()
        }
    return outcome
