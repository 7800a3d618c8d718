"""bench.reload --files N: what a folder of many small DAG files costs, and in stock Airflow."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from dev.benchmarks.environment import BenchEnvironment, workplace
from dev.benchmarks.events import PLAIN_DAG, Events, Folder, Timeouts, random_pause, repeat
from dev.benchmarks.observer import Observer
from dev.benchmarks.peers import STOCK, Peer
from dev.benchmarks.reload import Bench
from dev.benchmarks.report import OURS, Machine, Measurement, Report, Target
from windsock.events import Event, Parsing, Sent
from windsock.sync_process.control import ControlClient
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from pathlib import Path

    from dev.benchmarks.environment import Terminal
    from windsock.flow import Workspace

FIRST = "files that nobody has parsed → all listed"
TOLD = "edit → told"
UNRELATED = "file that no DAG uses → told"
STEPS: dict[type[Event], str] = {
    Sent: "file that no DAG uses → in the store",
    Parsing: "file that no DAG uses → listed and compared by the dag-processor",
}
"""The event that ends a step of such a save → what it is called."""
STRUCTURE = "edit → new structure"
REST = "at rest: CPU of the dag-processor and the sync"

TARGETS = {
    FIRST: Target(p50=40.0),
    TOLD: Target(p50=0.3),
    UNRELATED: Target(p50=0.1),
    REST: Target(p50=5.0),
}
"""Of 1,000 files on two cores."""

LONGEST_SECONDS = 1800.0
"""Until all files must be listed."""
REST_SECONDS = 30.0
QUIET_SECONDS = 12.0
"""Until an environment that has just been filled is at rest: the agent collects after 10 s."""
STOCK_EDITS = 3


def run(work: Workspace, *, files: int, as_json: bool, rounds: int, peers: bool) -> int:
    """Measure, and print the report.

    Args:
        work: The project; its own environment is not touched.
        files: How many DAG files, of two tasks each.
        as_json: Whether to print JSON.
        rounds: How often each save is measured.
        peers: Whether to measure stock Airflow, too.

    Returns:
        An exit code.
    """
    machine = Machine.this(airflow=airflow_version(work.settings))
    report = Report(f"reload --files {files}", machine)
    with workplace() as folder:
        bench = Bench(report=report, console=work.console, rounds=rounds, started=time.monotonic())
        bench.targets = TARGETS
        ours = BenchEnvironment(folder / "ours", project=work.settings.project)
        ours.use_venv_of(work.settings.state_folder)
        _measure_ours(bench, ours, files)
        if peers:
            _measure_stock(bench, folder / "stock", files, python=ours.airflow_python())
    return report.show(work.console, as_json=as_json)


def _measure_ours(bench: Bench, ours: BenchEnvironment, files: int) -> None:
    folder = Folder(ours.dags)
    folder.save_dag("bench_edit")
    many = fill(ours.dags.parent / "many", files)
    bench.say("windsock: invoke up")
    with ours.up() as environment, ours.terminal() as terminal:
        observer = Observer(environment.url, environment.user, environment.password())
        client = ControlClient(environment.control_socket)
        with observer:
            bench.say(f"windsock: {files} {FIRST}")
            many.rename(ours.dags / "many")
            seconds = _seconds_until_listed(observer, files + 1)
            _add(bench, FIRST, OURS, (seconds,), "s")
            client.barrier(timeout=LONGEST_SECONDS)
            time.sleep(QUIET_SECONDS)
            used = bench.measure_usage(OURS, ours.supervisor(), seconds=REST_SECONDS)
            _add(bench, REST, OURS, (used["dag-processor"].cpu + used["sync"].cpu,), "%")

            def between() -> None:
                client.barrier(timeout=60)
                random_pause(observer, longest=0.3)

            saves = _Saves(folder, terminal, client)
            for what, save in ((TOLD, saves.edit), (UNRELATED, saves.unrelated)):
                bench.say(f"windsock: {what}, {bench.rounds} times")
                samples, failures = repeat(save, times=bench.rounds, between=between)
                _add(bench, what, OURS, samples, "s", failures)
            for kind, what in STEPS.items():
                _add(bench, what, OURS, tuple(saves.steps[kind]), "s")


class _Saves:
    """Saves in our folder, timed until the terminal has told what came of them.

    Attributes:
        steps: Event → seconds from a save of a file that no DAG uses until it came.
    """

    def __init__(self, folder: Folder, terminal: Terminal, client: ControlClient) -> None:
        self.steps: dict[type[Event], list[float]] = {kind: [] for kind in STEPS}
        self._folder = folder
        self._terminal = terminal
        self._numbers = itertools.count()
        self._came: dict[type[Event], float] = {}
        threading.Thread(target=self._listen, args=(client,), daemon=True).start()

    def _listen(self, client: ControlClient) -> None:
        for event in client.attach():
            self._came.setdefault(type(event), time.monotonic())

    def edit(self) -> float:
        """A DAG gets another task."""
        self._folder.save_dag("bench_edit", task=f"task_{next(self._numbers)}")
        return self._until_told("bench_edit")

    def unrelated(self) -> float:
        """A file that no DAG uses changes."""
        self._came.clear()
        since = time.monotonic()
        self._folder.save("notes.txt", f"{next(self._numbers)}\n")
        seconds = self._until_told("notes")
        for kind, samples in self.steps.items():  # All came before the terminal's line.
            samples.append(self._came[kind] - since)
        return seconds

    def _until_told(self, name: str) -> float:
        since = time.monotonic()
        return self._terminal.seconds_until(f"{name}.* → ", since=since, timeout=60)


def _measure_stock(bench: Bench, state: Path, files: int, *, python: Path) -> None:
    """Airflow as it comes. It lists its folder every 300 s, so the files are there from the start.

    What it needs to start is part of its first number.
    """
    folder = Folder(state / "dags")
    folder.path.mkdir(parents=True)
    folder.save_dag("bench_edit")
    fill(folder.path / "many", files)
    peer = Peer(state, python=python, dags=folder.path, settings=STOCK)
    bench.say("stock Airflow: start")
    with peer.components() as running:
        observer = running.observer
        seconds = running.seconds + _seconds_until_listed(observer, files + 1)
        _add(bench, FIRST, "stock", (seconds,), "s")
        used = bench.measure_usage("stock", running.supervisor, seconds=REST_SECONDS)
        _add(bench, REST, "stock", (used["dag-processor"].cpu,), "%")
        events = Events(folder, observer, Timeouts(edit=300))
        samples, failures = repeat(
            events.edit,
            times=min(STOCK_EDITS, bench.rounds),
            between=lambda: random_pause(observer, longest=1.0),
        )
        _add(bench, STRUCTURE, "stock", samples, "s", failures)


def _seconds_until_listed(observer: Observer, count: int) -> float:
    return observer.seconds_until(
        lambda: observer.count() >= count,
        what=f"{count} DAGs listed",
        timeout=LONGEST_SECONDS,
        interval=0.2,
    )


def _add(  # noqa: PLR0917 - one row of the report
    bench: Bench,
    what: str,
    system: str,
    samples: tuple[float, ...],
    unit: str,
    failures: tuple[str, ...] = (),
) -> None:
    target = TARGETS.get(what) if system == OURS else None
    bench.report.measurements.append(
        Measurement(
            what=what, system=system, samples=samples, unit=unit, failures=failures, target=target
        )
    )


def fill(folder: Path, files: int) -> Path:
    """A folder of small DAG files."""
    folder.mkdir(parents=True)
    for number in range(files):
        name = f"bench_many_{number:05}"
        text = PLAIN_DAG.format(name=name, task="at_first")
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder
