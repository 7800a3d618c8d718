"""bench.kube: what a cluster makes of an `up`, of a task and of a changed requirement.

Ours and a plain Airflow, one after the other in namespaces of their own on the same cluster: see
`dev.benchmarks.plain` for what plain means, and docs/performance.md. The times of a task are those
that Airflow writes down, less the moment of the request on this machine: both clocks must agree, as
they do where the node is this machine. CPU time is known only there.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from dev.benchmarks.environment import BenchEnvironment, on_cluster, workplace
from dev.benchmarks.events import PLAIN_DAG
from dev.benchmarks.observer import Observer
from dev.benchmarks.plain import plain
from dev.benchmarks.pods import PodTimes, WorkerPods
from dev.benchmarks.reload import check_rounds
from dev.benchmarks.report import OURS, Machine, Measurement, Report, Target
from windsock.cluster.api.client import Cluster
from windsock.errors import ConfigurationError, DeadlineExceeded, WindsockError
from windsock.targets.choose import check_allowed
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dev.benchmarks.observer import TimedRun
    from windsock.config import Settings
    from windsock.flow import Workspace
    from windsock.terminal.console import Console

PLAIN = "plain"
WIDE_COUNT = 16
WIDE_ROUNDS = 3
UP_ROUNDS = 3
RUN_TIMEOUT = 180.0
GONE_TIMEOUT = 90.0

UP = "up, cluster ready, images there"
ALREADY = "up, already up"
REBUILD = "images, after a changed requirement"
REBUILT_UP = "up, after a changed requirement"
TOTAL = "trigger → 1-task run succeeded"
WIDE = f"trigger → {WIDE_COUNT}-wide run succeeded"
CPU = "CPU of a task's pod"

TARGETS = {
    UP: Target(p50=20),
    ALREADY: Target(p50=3),
    TOTAL: Target(p50=2.2),
    CPU: Target(p50=1.3),
}
"""DESIGN.md, "Numbers to reach", and what an `up` that changes nothing may take."""

ONE = "bench_kube_one"
MANY = "bench_kube_wide"

WIDE_DAG = """\
from airflow.sdk import dag, task


@dag(schedule=None)
def {name}():
    @task
    def work(number):
        return number

    for number in range({count}):
        work.override(task_id=f"work_{{number}}")(number)


{name}()
"""

DAGS = {
    ONE: PLAIN_DAG.format(name=ONE, task="work"),
    MANY: WIDE_DAG.format(name=MANY, count=WIDE_COUNT),
}

STEP = re.compile(r"^✓ (?P<title>[^:(]+?)(?::.*)? \((?P<seconds>[\d.]+) s\)$", re.MULTILINE)
"""A closing line of `Console.step`."""

REQUIREMENTS = ("iniconfig==2.1.0\n", "iniconfig==2.0.0\n")
"""Two contents of a project's requirements: small, without dependencies, not in Airflow's lock."""


def run(work: Workspace, *, as_json: bool, rounds: int, peer: bool) -> int:
    """Measure, and print the report.

    Args:
        work: The project and the context; namespaces of our own are used.
        as_json: Whether to print JSON.
        rounds: How often a run of one task is measured.
        peer: Whether to measure plain Airflow, too.

    Returns:
        An exit code.

    Raises:
        ConfigurationError: `rounds` is no such number, or the settings name no context.
        WindsockError: A system did not start.
    """
    check_rounds(rounds)
    if work.settings.target != "context":
        raise ConfigurationError(
            "bench.kube needs a cluster", "Name one: `invoke bench.kube --context NAME`."
        )
    check_allowed(work.settings, work.settings.cluster.context)
    report = Report("kube", Machine.this(airflow=airflow_version(work.settings)))
    with workplace() as folder:
        bench = Bench(work.settings, report, work.console, rounds=rounds, folder=folder)
        bench.measure_ours()
        if peer:
            bench.measure_plain()
    return report.show(work.console, as_json=as_json)


@dataclass
class Samples:
    """Of one system, by what was measured: seconds, and why some are missing."""

    taken: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def take(self, what: str, seconds: float | None) -> None:
        """Keep a sample; None where there was nothing to measure."""
        if seconds is not None:
            self.taken.setdefault(what, []).append(seconds)

    def measurements(self, system: str) -> Iterator[Measurement]:
        """All of them, for the report."""
        for what in {**self.taken, **self.failures}:
            yield Measurement(
                what=what,
                system=system,
                samples=tuple(self.taken.get(what, ())),
                failures=tuple(self.failures.get(what, ())),
                unit="CPU-s" if what == CPU else "s",
                target=TARGETS.get(what) if system == OURS else None,
            )


class Bench:
    """One run: measures system after system into its report.

    Args:
        settings: The project and the context.
        report: Gets the measurements.
        console: For the progress.
        rounds: Of runs of one task.
        folder: For everything that is made on this machine.
    """

    def __init__(
        self, settings: Settings, report: Report, console: Console, *, rounds: int, folder: Path
    ) -> None:
        self._settings = settings
        self._report = report
        self._console = console
        self._rounds = rounds
        self._folder = folder
        self._started = time.monotonic()

    def _say(self, text: str) -> None:
        self._console.line(f"{time.monotonic() - self._started:6.1f} s  {text}")

    def _cluster(self, system: str) -> Cluster:
        return Cluster.connect(
            context=self._settings.cluster.context,
            namespace=f"windsock-bench-{system}-{uuid.uuid4().hex[:6]}",
            kubeconfig=self._settings.cluster.kubeconfig or None,
        )

    # --- ours ---------------------------------------------------------------------------------

    def measure_ours(self) -> None:
        """`up` and `down` some times, then runs, then a requirement changes."""
        cluster = self._cluster(OURS)
        requirements = self._folder / "requirements.txt"
        requirements.write_text(REQUIREMENTS[0], encoding="utf-8")
        ours = BenchEnvironment(
            self._folder / "ours",
            project=self._settings.project,
            variables={
                **on_cluster(self._settings, namespace=cluster.namespace),
                "INVOKE_WINDSOCK_REQUIREMENTS": str(requirements),
            },
        )
        for dag_id, source in DAGS.items():
            (ours.dags / f"{dag_id}.py").write_text(source, encoding="utf-8")
        samples = Samples()
        try:
            self._say("windsock: invoke build")
            ours.command("build")
            self._measure_ups(ours, samples)
            with _observer(ours) as observer:
                self._measure_runs(OURS, observer, cluster, samples)
            self._say(f"windsock: {REBUILD}")
            requirements.write_text(REQUIREMENTS[1], encoding="utf-8")
            samples.take(REBUILD, ours.command("build"))
            samples.take(REBUILT_UP, ours.command("up", "--detach"))
        finally:
            ours.remove()
        self._report.measurements += samples.measurements(OURS)

    def _measure_ups(self, ours: BenchEnvironment, samples: Samples) -> None:
        """The last one stays up."""
        for number in range(UP_ROUNDS):
            self._say(f"windsock: {UP}, {number + 1} of {UP_ROUNDS}")
            seconds, shown = ours.run("up", "--detach")
            samples.take(UP, seconds)
            for step in STEP.finditer(shown):
                samples.take(f"{UP}: {step['title']}", float(step["seconds"]))
            samples.take(ALREADY, ours.command("up", "--detach"))
            if number + 1 < UP_ROUNDS:
                samples.take("down --volumes", ours.command("down", "--volumes"))

    # --- the peer -----------------------------------------------------------------------------

    def measure_plain(self) -> None:
        """Measure plain Airflow."""
        cluster = self._cluster(PLAIN)
        samples = Samples()
        wanted = replace(self._settings, requirements=str(self._folder / "requirements.txt"))
        self._say("plain Airflow: apply, roll out")
        with plain(cluster, wanted, folder=self._folder / "plain", dags=DAGS) as there:
            samples.take(UP, there.seconds)
            for dag_id in DAGS:
                there.observer.unpause(dag_id)
            self._measure_runs(PLAIN, there.observer, cluster, samples)
        self._report.measurements += samples.measurements(PLAIN)

    # --- runs, the same for both --------------------------------------------------------------

    def _measure_runs(
        self, system: str, observer: Observer, cluster: Cluster, samples: Samples
    ) -> None:
        with WorkerPods(cluster) as pods:
            _timed(observer, pods, ONE, tasks=1)  # The first one pays for lazy imports.
            self._say(f"{system}: {TOTAL}, {self._rounds} times")
            for _ in range(self._rounds):
                self._attempt(samples, TOTAL, lambda: _take_one(observer, pods, samples))
            self._say(f"{system}: {WIDE}, {WIDE_ROUNDS} times")
            for _ in range(WIDE_ROUNDS):
                self._attempt(samples, WIDE, lambda: _take_wide(observer, pods, samples))

    @staticmethod
    def _attempt(samples: Samples, what: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except WindsockError as error:
            samples.failures.setdefault(what, []).append(error.message)


def _observer(ours: BenchEnvironment) -> Observer:
    environment = ours.environment()
    return Observer(environment.url, environment.user, environment.password())


def _timed(
    observer: Observer, pods: WorkerPods, dag_id: str, *, tasks: int
) -> tuple[TimedRun, list[PodTimes]]:
    run = observer.timed_run(dag_id, timeout=RUN_TIMEOUT)
    return run, pods.since(run.triggered, count=tasks, timeout=GONE_TIMEOUT)


def _take_one(observer: Observer, pods: WorkerPods, samples: Samples) -> None:
    """A run of one task: each moment, in seconds since the trigger."""
    run, [pod, *again] = _timed(observer, pods, ONE, tasks=1)
    if again:
        raise DeadlineExceeded(f"{run.run_id} took {1 + len(again)} pods")
    [task] = run.tasks

    def since(moment: float | None) -> float | None:
        return None if moment is None else moment - run.triggered

    samples.take(TOTAL, since(run.ended))
    samples.take(f"{TOTAL}: task queued", since(_epoch(task["queued_when"])))
    samples.take(f"{TOTAL}: pod made", since(pod.created))
    samples.take(f"{TOTAL}: container seen running", since(pod.running))
    samples.take(f"{TOTAL}: task started", since(_epoch(task["start_date"])))
    samples.take(f"{TOTAL}: task ended", since(_epoch(task["end_date"])))
    samples.take(f"{TOTAL}: pod gone", since(pod.gone))
    samples.take(CPU, pod.cpu)


def _take_wide(observer: Observer, pods: WorkerPods, samples: Samples) -> None:
    run, _ = _timed(observer, pods, MANY, tasks=WIDE_COUNT)
    samples.take(WIDE, run.ended - run.triggered)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
