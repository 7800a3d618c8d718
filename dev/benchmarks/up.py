"""bench.up: how long `invoke up` and `invoke down` take, next to `airflow standalone`.

The commands that a person types, on a state folder that is empty at first; see docs/performance.md.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.benchmarks.environment import BenchEnvironment, workplace
from dev.benchmarks.events import Folder
from dev.benchmarks.peers import STOCK, Peer
from dev.benchmarks.reload import check_rounds
from dev.benchmarks.report import OURS, Machine, Measurement, Report, Target
from windsock.errors import EnvironmentFailure
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.flow import Workspace
    from windsock.terminal.console import Console

CLONE = "clone → Airflow up, everything installed"
FIRST = "first up, nothing cached"
FIRST_CACHED = "first up, packages in uv's cache"
WARM = "warm up, after a down"
ALREADY = "up, already up"
DOWN = "down"

TARGETS = {
    CLONE: Target(p50=60),
    FIRST: Target(p50=45),
    FIRST_CACHED: Target(p50=45),
    WARM: Target(p50=12),
    ALREADY: Target(p50=1),
}
"""DESIGN.md, "Numbers to reach"."""

REQUIREMENTS = "requirements.txt"
STANDALONE = "standalone"
STANDALONE_ROUNDS = 2
"""It always does the same."""

NOTE = (
    "`airflow standalone` installs nothing: its first start is that of a new AIRFLOW_HOME in a "
    "venv that is there, on SQLite. Every start ends when all components are healthy."
)


def run(work: Workspace, *, as_json: bool, rounds: int) -> int:
    """Measure, and print the report.

    Args:
        work: The project; its own environment is not touched.
        as_json: Whether to print JSON.
        rounds: How often each kind of start is measured. The one that downloads all of Airflow is
            measured once.

    Returns:
        An exit code.

    Raises:
        ConfigurationError: `rounds` is no such number.
        WindsockError: Something did not start or stop.
    """
    check_rounds(rounds)
    report = Report("up", Machine.this(airflow=airflow_version(work.settings)), notes=[NOTE])
    times = Times(console=work.console)
    with workplace() as folder:
        bench = Bench(folder=folder, project=work.settings.project, times=times)
        bench.measure_clone()
        python = bench.measure_first()
        for number in range(rounds):
            bench.measure_ours(number)
        for number in range(min(rounds, STANDALONE_ROUNDS)):
            bench.measure_standalone(number, python=python)
    report.measurements += times.measurements()
    return report.show(work.console, as_json=as_json)


@dataclass(kw_only=True)
class Times:
    """The samples so far; each is printed on stderr as it comes."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    taken: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def take(self, what: str, seconds: float, *, system: str = OURS) -> None:
        """Keep one."""
        self.taken.setdefault((what, system), []).append(seconds)
        passed = time.monotonic() - self.started
        self.console.line(f"{passed:6.1f} s  {system}: {what}: {seconds:.1f} s")

    def measurements(self) -> list[Measurement]:
        """All of them, for the report."""
        return [
            Measurement(
                what=what,
                system=system,
                samples=tuple(samples),
                target=TARGETS.get(what) if system == OURS else None,
            )
            for (what, system), samples in self.taken.items()
        ]


@dataclass(kw_only=True)
class Bench:
    """Measures one start after the other.

    Attributes:
        folder: For everything that is made.
        project: The folder of tasks.py.
        times: Takes the samples.
    """

    folder: Path
    project: Path
    times: Times

    def _environment(self, name: str) -> BenchEnvironment:
        # A cache of packages of our own: what is in the user's would flatter the first start.
        cache = {"UV_CACHE_DIR": str(self.folder / "cache")}
        ours = BenchEnvironment(self.folder / name, project=self.project, variables=cache)
        Folder(ours.dags).fill()
        return ours

    def measure_clone(self) -> None:
        """What a newcomer does: clone the last commit, make a venv, README's first command."""
        clone = self.folder / "clone"
        python = clone / ".venv" / "bin" / "python"
        cache = self.folder / "cache-of-clone"
        ours = BenchEnvironment(
            self.folder / "cloned",
            project=clone,
            python=python,
            variables={"UV_CACHE_DIR": str(cache / "uv"), "PIP_CACHE_DIR": str(cache / "pip")},
        )
        Folder(ours.dags).fill()
        clone.mkdir()
        started = time.monotonic()
        try:
            for command in (
                ["git", "clone", "--quiet", str(self.project), str(clone)],
                [sys.executable, "-m", "venv", str(clone / ".venv")],
                [str(python), "-m", "pip", "install", "--quiet", "-r", str(clone / REQUIREMENTS)],
            ):
                done = subprocess.run(
                    command, env=ours.variables, cwd=clone, capture_output=True, check=False
                )
                if done.returncode != 0:
                    end = done.stderr.decode(errors="replace")[-1000:]
                    raise EnvironmentFailure(f"`{' '.join(command)}` failed", end)
            ours.command("up", "--detach")
            self.times.take(CLONE, time.monotonic() - started)
        finally:
            if (python.parent / "invoke").exists():
                ours.stop()

    def measure_first(self) -> Path:
        """The very first start on a machine: it downloads Airflow.

        Returns:
            The interpreter of Airflow's venv, for the peer.
        """
        ours = self._environment("first")
        try:
            self.times.take(FIRST, ours.command("up", "--detach"))
        finally:
            ours.stop()
        return ours.airflow_python()

    def measure_ours(self, number: int) -> None:
        """A first start, one when it is up, one after a stop."""
        ours = self._environment(f"ours-{number}")
        try:
            self.times.take(FIRST_CACHED, ours.command("up", "--detach"))
            self.times.take(ALREADY, ours.command("up", "--detach"))
            self.times.take(DOWN, ours.command("down"))
            self.times.take(WARM, ours.command("up", "--detach"))
        finally:
            ours.remove()

    def measure_standalone(self, number: int, *, python: Path) -> None:
        """Airflow's own way, on a new AIRFLOW_HOME and then on that again."""
        state = self.folder / f"standalone-{number}"
        folder = Folder(state / "dags")
        folder.fill()
        peer = Peer(state, python=python, dags=folder.path, settings=STOCK)
        for what in (FIRST_CACHED, WARM):
            with peer.standalone() as running:
                self.times.take(what, running.seconds, system=STANDALONE)
