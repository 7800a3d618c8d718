"""bench.reload: from a save to what Airflow makes of it, and from a trigger to a finished run.

Ours, tuned Airflow and stock Airflow, one after the other on the same machine: the same venv, the
same PostgreSQL, the same DAG files, the same looks at the API. See docs/performance.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.benchmarks import usage
from dev.benchmarks.environment import BenchEnvironment, workplace
from dev.benchmarks.events import (
    BROKEN,
    DELETED,
    EDIT,
    HELPER,
    NEW,
    RUN_1,
    RUN_5,
    Events,
    Folder,
    Samples,
    Timeouts,
    gone,
    over_a_refresh,
    random_pause,
    repeat,
)
from dev.benchmarks.observer import Observer
from dev.benchmarks.peers import STOCK, TUNED, Peer
from dev.benchmarks.report import OURS, Listing, Machine, Measurement, Report, Target
from windsock.errors import ConfigurationError
from windsock.sync_process.control import ControlClient
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from windsock.flow import Workspace
    from windsock.local.processes import Supervisor
    from windsock.model import Environment
    from windsock.terminal.console import Console

TARGETS = {
    EDIT: Target(p50=0.25, p95=0.5),
    NEW: Target(p50=0.30),
    DELETED: Target(p50=0.20),
    BROKEN: Target(p50=0.40),
    HELPER: Target(p50=0.60),
    RUN_1: Target(p50=0.6),
}
"""DESIGN.md, "Numbers to reach"."""

IDLE_CPU = "watcher idle, 2,000 files: CPU"
IDLE_RSS = "watcher idle, 2,000 files: RSS"
IDLE_TARGETS = {IDLE_CPU: Target(p50=1.0), IDLE_RSS: Target(p50=80.0)}

IDLE_FILES = 2000
IDLE_SECONDS = 20.0
QUIET_SECONDS = 12.0
"""Until an environment that has just been filled is at rest: its agent looks after 10 s whether
there is something to collect."""

TUNED_ROUNDS = 10
HELPER_ROUNDS = 2
"""Of the peers: they find such an edit after up to 30 s, tuned or not."""
STOCK_ROUNDS = {EDIT: 3, BROKEN: 3, HELPER: HELPER_ROUNDS, RUN_1: 5, RUN_5: 3}
STOCK_LISTINGS = 3
STOCK_PERIOD = 280.0
"""Seconds over which new and deleted files are spread: Airflow's default lists every 300 s."""

USAGE_HEADING = ("system", "component", "processes", "RSS MiB", "PSS MiB", "CPU %")


def run(work: Workspace, *, as_json: bool, rounds: int, peers: bool) -> int:
    """Measure, and print the report.

    Args:
        work: The project; its own environment is not touched.
        as_json: Whether to print JSON.
        rounds: How often each event of windsock is measured.
        peers: Whether to measure stock and tuned Airflow, too (about ten minutes).

    Returns:
        An exit code.

    Raises:
        ConfigurationError: `rounds` is no such number.
        WindsockError: A system did not start.
    """
    check_rounds(rounds)
    report = Report("reload", Machine.this(airflow=airflow_version(work.settings)))
    with workplace() as folder:
        bench = Bench(report=report, console=work.console, rounds=rounds, started=time.monotonic())
        ours = BenchEnvironment(folder / "ours", project=work.settings.project)
        ours.use_venv_of(work.settings.state_folder)
        bench.measure_ours(ours)
        if peers:
            python = ours.airflow_python()
            bench.measure_tuned(folder / "tuned", python=python)
            bench.measure_stock(folder / "stock", python=python)
    return report.show(work.console, as_json=as_json)


def check_rounds(rounds: int) -> None:
    """Refuse a number of rounds that measures nothing."""
    if rounds < 1:
        raise ConfigurationError(f"--rounds is {rounds}", "Measure at least once.")


@dataclass(kw_only=True)
class Bench:
    """One run: measures system after system into its report."""

    report: Report
    console: Console
    rounds: int
    started: float
    targets: Mapping[str, Target] = field(default_factory=lambda: dict(TARGETS))

    def say(self, text: str) -> None:
        """Tell how far we are, on stderr."""
        self.console.line(f"{time.monotonic() - self.started:6.1f} s  {text}")

    # --- ours ---------------------------------------------------------------------------------

    def measure_ours(self, ours: BenchEnvironment) -> None:
        """Measure windsock."""
        folder = Folder(ours.dags)
        folder.fill()
        extra = many_files(ours.dags)
        self.say("windsock: invoke up")
        with ours.up() as environment:
            client = ControlClient(environment.control_socket)
            client.barrier(timeout=120)
            self.measure_idle(ours)
            for path in extra:
                path.unlink()
            self.measure_saves(ours, environment, folder, runs=True)

    def measure_saves(
        self, ours: BenchEnvironment, environment: Environment, folder: Folder, *, runs: bool
    ) -> None:
        """Measure what becomes of saves.

        Args:
            ours: The environment.
            environment: The same, as it is up.
            folder: Of its DAGs, filled.
            runs: Whether to measure runs, too.
        """
        client = ControlClient(environment.control_socket)
        client.barrier(timeout=120)
        with _observer(environment) as observer, ours.terminal() as terminal:
            events = Events(folder, observer, Timeouts())

            def between() -> None:
                client.barrier(timeout=60)
                random_pause(observer, longest=0.3)

            self._measure_listing_of_ours(folder, events, between)
            measured = {
                EDIT: events.edit,
                BROKEN: lambda: events.broken_on(terminal),
                HELPER: events.helper,
            }
            if runs:
                measured |= {RUN_1: lambda: events.run(1), RUN_5: lambda: events.run(5)}
            self._measure(OURS, measured, times=lambda _: self.rounds, between=between)

    def measure_idle(self, ours: BenchEnvironment) -> None:
        """What it costs while nobody saves anything."""
        self.say(f"windsock: idle, {IDLE_FILES} files")
        time.sleep(QUIET_SECONDS)
        used = usage.idle(ours.supervisor(), seconds=IDLE_SECONDS)
        self._add_usage(OURS, used)
        for what, unit, value in (
            (IDLE_CPU, "%", used["sync"].cpu),
            (IDLE_RSS, "MiB", used["sync"].rss),
        ):
            self.report.measurements.append(
                Measurement(
                    what=what,
                    system=OURS,
                    samples=(value,),
                    unit=unit,
                    target=IDLE_TARGETS[what],
                )
            )

    def _measure_listing_of_ours(
        self, folder: Folder, events: Events, between: Callable[[], None]
    ) -> None:
        """A file comes, and goes again."""
        names = [folder.fresh("bench_new") for _ in range(self.rounds)]
        self._measure_listing(OURS, names, events, between)

    # --- peers --------------------------------------------------------------------------------

    def measure_tuned(self, state: Path, *, python: Path) -> None:
        """Measure Airflow that polls as fast as it can."""
        folder = Folder(state / "dags")
        folder.fill()
        peer = Peer(state, python=python, dags=folder.path, settings=TUNED)
        self.say("tuned Airflow: start")
        with peer.components() as running:
            events = Events(folder, running.observer, Timeouts(edit=90, listing=60))
            self._get_ready(folder, running.observer)
            self._add_usage("tuned", usage.idle(running.supervisor, seconds=IDLE_SECONDS))

            def between() -> None:
                random_pause(running.observer, longest=1.0)

            times = min(self.rounds, TUNED_ROUNDS)
            names = [folder.fresh("bench_new") for _ in range(times)]
            self._measure_listing("tuned", names, events, between)
            self._measure(
                "tuned",
                _events_of_peer(events),
                times=lambda what: min(times, HELPER_ROUNDS) if what == HELPER else times,
                between=between,
            )

    def measure_stock(self, state: Path, *, python: Path) -> None:
        """Measure Airflow as it comes."""
        folder = Folder(state / "dags")
        folder.fill()
        samples = min(self.rounds, STOCK_LISTINGS)
        for number in range(samples):
            folder.save_dag(gone(number))
        peer = Peer(state, python=python, dags=folder.path, settings=STOCK)
        self.say("stock Airflow: start")
        with peer.components() as running:
            events = Events(folder, running.observer, Timeouts(edit=90, listing=330))
            self._get_ready(folder, running.observer, also=[gone(n) for n in range(samples)])
            self._add_usage("stock", usage.idle(running.supervisor, seconds=IDLE_SECONDS))
            with over_a_refresh(
                events, running.observer, samples=samples, period=STOCK_PERIOD
            ) as collect:
                self._measure(
                    "stock",
                    _events_of_peer(events),
                    times=lambda what: min(self.rounds, STOCK_ROUNDS[what]),
                    between=lambda: random_pause(running.observer, longest=1.0),
                )
                self.say("stock: waiting for Airflow to list its folder (every 300 s)")
                for what, taken in collect().items():
                    self._add("stock", what, taken)

    def _get_ready(
        self, folder: Folder, observer: Observer, *, also: list[str] | None = None
    ) -> None:
        """Wait until a peer has parsed everything; then its DAGs may run."""
        for dag_id in [*folder.dag_ids(), *(also or [])]:
            observer.seconds_until(
                lambda dag_id=dag_id: observer.lists(dag_id),  # type: ignore[misc] # bound early
                what=f"{dag_id} listed after the start",
                timeout=120,
                interval=0.2,
            )
        for length in (1, 5):
            observer.unpause(f"bench_run_{length}")

    # --- shared -------------------------------------------------------------------------------

    def _measure(
        self,
        system: str,
        events: Mapping[str, Callable[[], float]],
        *,
        times: Callable[[str], int],
        between: Callable[[], None],
    ) -> None:
        for what, event in events.items():
            if what in (RUN_1, RUN_5):
                between()
                event()  # The first run of an Airflow pays for lazy imports: not counted.
            self.say(f"{system}: {what}, {times(what)} times")
            self._add(system, what, repeat(event, times=times(what), between=between))

    def _measure_listing(
        self, system: str, names: list[str], events: Events, between: Callable[[], None]
    ) -> None:
        self.say(f"{system}: {NEW}, {DELETED}, {len(names)} times")
        came, went = iter(names), iter(names)
        self._add(
            system, NEW, repeat(lambda: events.new(next(came)), times=len(names), between=between)
        )
        self._add(
            system,
            DELETED,
            repeat(lambda: events.deleted(next(went)), times=len(names), between=between),
        )

    def _add(self, system: str, what: str, taken: Samples) -> None:
        samples, failures = taken
        target = self.targets.get(what) if system == OURS else None
        self.report.measurements.append(
            Measurement(what=what, system=system, samples=samples, failures=failures, target=target)
        )

    def measure_usage(
        self, system: str, supervisor: Supervisor, *, seconds: float
    ) -> dict[str, usage.Usage]:
        """What a system needs while nobody saves anything; also a table of the report."""
        self.say(f"{system}: at rest for {seconds:g} s")
        used = usage.idle(supervisor, seconds=seconds)
        self._add_usage(system, used, seconds=seconds)
        return used

    def _add_usage(
        self, system: str, used: Mapping[str, usage.Usage], *, seconds: float = IDLE_SECONDS
    ) -> None:
        rows: list[tuple[str | float | None, ...]] = [
            (system, name, item.processes, item.rss, item.pss, item.cpu)
            for name, item in used.items()
        ]
        proportional = [item.pss for item in used.values()]
        known = [value for value in proportional if value is not None]
        rows.append(
            (
                system,
                "all",
                sum(item.processes for item in used.values()),
                sum(item.rss for item in used.values()),
                sum(known) if len(known) == len(proportional) else None,
                sum(item.cpu for item in used.values()),
            )
        )
        self.report.listings.append(
            Listing(
                title=f"{system}, idle for {seconds:g} s (CPU: of one core)",
                heading=USAGE_HEADING,
                rows=tuple(rows),
            )
        )


def _events_of_peer(events: Events) -> dict[str, Callable[[], float]]:
    """Those that are measured one after the other."""
    return {
        EDIT: events.edit,
        BROKEN: events.broken,
        HELPER: events.helper,
        RUN_1: lambda: events.run(1),
        RUN_5: lambda: events.run(5),
    }


def _observer(environment: Environment) -> Observer:
    return Observer(environment.url, environment.user, environment.password())


def many_files(dags: Path) -> list[Path]:
    """Files that are watched, but are no DAGs."""
    folders = [dags / "data" / f"{number:02}" for number in range(20)]
    paths: list[Path] = []
    for folder in folders:
        folder.mkdir(parents=True)
        for number in range(IDLE_FILES // len(folders)):
            path = folder / f"{number:03}.sql"
            path.write_text(f"select {number};\n", encoding="utf-8")
            paths.append(path)
    return paths
