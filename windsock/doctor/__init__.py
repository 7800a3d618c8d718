"""Check this machine and this project, and say what to do about each finding.

A check never changes anything, and no finding contains a secret. The checks are in
`machine` (Python, disk, memory, tools), `project` (the DAG folder, the lock, the settings file) and
`environment` (what is up, or was).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import psutil

from windsock.doctor import environment, machine, project
from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding, plural
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.local.components import Layout
from windsock.targets import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from windsock.config import Settings
    from windsock.terminal.console import Console

    Check = Callable[[], Iterable[Finding]]

LOCAL_ONLY = ("postgres", "memory", "venv")
"""Checks of what runs on this machine on the target `local`."""

_OUTCOMES = {OK: "success", WARNING: "warning", PROBLEM: "failure"}


def run(settings: Settings, console: Console, *, as_json: bool) -> int:
    """Print what each check found.

    Returns:
        An exit code: 0 unless there is a problem; warnings are none.
    """
    findings = examine(_checks(settings, os.environ))
    count = Counter(finding.level for finding in findings)
    if as_json:
        console.json(
            {
                "problems": count[PROBLEM],
                "warnings": count[WARNING],
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        answer = console.on_stdout
        answer.outcomes(
            (_OUTCOMES[item.level], (item.check, f"{item.what}\n{item.advice}".rstrip()))
            for item in findings
        )
        answer.line(f"{plural(count[PROBLEM], 'problem')}, {plural(count[WARNING], 'warning')}")
    return EnvironmentFailure.exit_code if count[PROBLEM] else 0


def _checks(settings: Settings, variables: Mapping[str, str]) -> dict[str, Check]:
    """Every check by its name, in the order in which they are printed.

    What only the local target needs is not checked where a cluster is meant.
    """
    layout = Layout(state=settings.state_folder)
    older = [settings.lock, layout.migrated, layout.ports]
    target = _target(settings)
    checks: dict[str, Check] = {
        "target": lambda: [Finding(OK, choose.explain(settings))],
        "python": lambda: machine.python(settings.local.python, variables),
        "uv": lambda: machine.uv(variables),
        "postgres": machine.postgres,
        "disk": lambda: machine.disk(layout),
        "memory": machine.memory,
        "clock": lambda: machine.clock(older, now=time.time()),
        "dags": lambda: project.dags(settings.dags_folder),
        "watches": lambda: project.watches(settings.dags_folder),
        "settings": lambda: project.airflow_settings(settings, variables),
        "lock": lambda: project.lock(settings),
        "venv": lambda: environment.built(settings, layout, variables),
        "paths": lambda: environment.paths(layout),
        "ports": lambda: environment.ports(layout, environment.wanted_ports(settings, target)),
        # Before the environment is looked at: using the secrets closes a file that stands open.
        "secrets": lambda: environment.secrets(layout),
        "bringing up": lambda: environment.bringing_up(layout),
        "environment": lambda: environment.components(layout, choose.operations(settings).status),
        "sync": lambda: environment.sync(layout),
        "tools": lambda: machine.tools(variables, needed=machine.NEEDED.get(target, ())),
    }
    if target != "local":
        for name in LOCAL_ONLY:
            del checks[name]
    return checks


def _target(settings: Settings) -> str:
    try:
        return choose.wanted(settings).target
    except WindsockError:  # The check of the target says what is wrong.
        return settings.target


def examine(checks: Mapping[str, Check]) -> list[Finding]:
    """Make every check; one that fails itself is a finding too."""
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            found = list(check())
        except WindsockError as error:
            found = [Finding(PROBLEM, error.message, error.hint)]
        except (OSError, psutil.Error) as error:
            found = [Finding(WARNING, f"could not be checked: {error}")]
        findings += [replace(finding, check=name) for finding in found]
    return findings
