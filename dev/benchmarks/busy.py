"""bench.busy: `invoke up` and `invoke test` on a machine whose cores others keep busy.

Not for a number: it shows that both take longer and succeed, with the patience that they have by
default. Each is measured once alone, and once beside processes that do nothing but spin.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dev.benchmarks.environment import BenchEnvironment, workplace
from dev.benchmarks.report import Machine, Measurement, Report
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.flow import Workspace

SPIN = "while True: pass"
ALONE = "alone"


def run(work: Workspace, *, as_json: bool, spinning: int) -> int:
    """Measure, and print the report.

    Args:
        work: The project, whose examples are brought up and tested; its own environment is not
            touched.
        as_json: Whether to print JSON.
        spinning: How many processes keep the cores busy, at the usual priority.

    Returns:
        An exit code.

    Raises:
        WindsockError: `up` or `test` gave up.
    """
    settings = work.settings
    report = Report("busy", Machine.this(airflow=airflow_version(settings)), notes=[])
    started = time.monotonic()
    with workplace() as folder:
        environment = BenchEnvironment(
            folder,
            project=settings.project,
            variables={
                "INVOKE_WINDSOCK_DAGS": str(settings.dags_folder),
                "INVOKE_WINDSOCK_AIRFLOW_SETTINGS": str(settings.path(settings.airflow_settings)),
                "INVOKE_WINDSOCK_RUN_SCHEDULES": "false",
            },
        )
        for system, processes in ((ALONE, 0), (f"beside {spinning} that spin", spinning)):
            with busy(processes):
                try:
                    for what in (["up", "--detach"], ["test"]):
                        seconds = environment.command(*what)
                        name = f"invoke {' '.join(what)}"
                        passed = time.monotonic() - started
                        work.console.line(f"{passed:6.1f} s  {system}: {name}: {seconds:.1f} s")
                        report.measurements.append(
                            Measurement(what=name, system=system, samples=(seconds,))
                        )
                finally:
                    environment.remove()
    return report.show(work.console, as_json=as_json)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the cores busy with so many processes."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()
