"""bench.sync: from a save to a pod of a cluster, and what a person would type without windsock.

It uses another environment in another namespace, and also the sync alone with a second store on the
same volume; see docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.benchmarks import usage
from dev.benchmarks.bare import Bare, fill
from dev.benchmarks.environment import BenchEnvironment, on_cluster, workplace
from dev.benchmarks.events import EDIT, Folder, repeat
from dev.benchmarks.pod import Kubectl, Reader
from dev.benchmarks.reload import IDLE_SECONDS, Bench, check_rounds, many_files
from dev.benchmarks.reload import TARGETS as LOCAL_TARGETS
from dev.benchmarks.report import OURS, Machine, Measurement, Report, Target
from windsock.cluster.access.streams import DAG_PROCESSOR
from windsock.cluster.api.client import Cluster
from windsock.cluster.manifests.settings import STORE
from windsock.sync_process.control import ControlClient
from windsock.targets import choose
from windsock.targets.location import Location
from windsock.targets.versions import airflow_version

if TYPE_CHECKING:
    from pathlib import Path

    from dev.benchmarks.events import Samples
    from windsock.config import Settings
    from windsock.flow import Workspace

READABLE = "save of 2 kB → readable in the pod"
LARGE = "save of 20 MB → readable in the pod"
FIRST = "first sync, 2,000 files, 50 MB"
SWITCH = "switch of 2,000 files, 4 MB"
RECONNECT = "stream cut → caught up"
SAVING_CPU = "a save a second: CPU"
SAVING_RSS = "a save a second: RSS"

TAR = "tar, kubectl exec"
COPY = "kubectl cp"

TARGETS = {
    **LOCAL_TARGETS,
    EDIT: Target(p50=0.35),
    READABLE: Target(p50=0.020, p95=0.050),
    SWITCH: Target(p50=2.0),
}
"""DESIGN.md, "Numbers to reach"."""
FIRST_TIMES_TAR = 1.2

FILES = 2000
FIRST_BYTES = 25_000
SWITCH_BYTES = 2_000
SMALL_BYTES = 2_000
LARGE_BYTES = 20_000_000
SLOW_ROUNDS = 5
"""Of what takes seconds."""
BENCH_STORE = f"{STORE}/bench"
"""A second store, on the volume of the environment's store."""
COPIED = "bench_copy.sql"

Save = Callable[[str, str], None]
"""Brings a file of a name with a content on its way."""
Way = tuple[Save, str]
"""How a file travels, and the folder in the pod where it arrives."""


def run(work: Workspace, *, as_json: bool, rounds: int) -> int:
    """Measure, and print the report.

    Args:
        work: The project, with a cluster as its target; its own environment is not touched.
        as_json: Whether to print JSON.
        rounds: How often each event is measured.

    Returns:
        An exit code.

    Raises:
        ConfigurationError: `rounds` is no such number, or the target is no cluster.
        WindsockError: The environment did not come up.
    """
    check_rounds(rounds)
    report = Report("sync", Machine.this(airflow=airflow_version(work.settings)))
    with workplace() as folder:
        settings = _of_the_bench(work.settings, state=folder / "ours" / "state")
        choose.cluster_target(settings)  # an error if it is no cluster
        bench = Bench(
            report=report,
            console=work.console,
            rounds=rounds,
            started=time.monotonic(),
            targets=TARGETS,
        )
        ours = BenchEnvironment(
            folder / "ours",
            project=settings.project,
            variables=on_cluster(settings, namespace=settings.cluster.namespace),
        )
        try:
            _measure(bench, ours, folder=folder, kubeconfig=settings.cluster.kubeconfig)
        finally:
            ours.remove()
    return report.show(work.console, as_json=as_json)


def _of_the_bench(settings: Settings, *, state: Path) -> Settings:
    """The settings of an environment next to the one of the project."""
    namespace = f"{settings.cluster.namespace}-bench"
    return dataclasses.replace(
        settings,
        state=str(state),
        cluster=dataclasses.replace(settings.cluster, namespace=namespace),
    )


def _measure(bench: Bench, ours: BenchEnvironment, *, folder: Path, kubeconfig: str) -> None:
    """Bring the environment up, and measure all of it."""
    dags = Folder(ours.dags)
    dags.fill()
    extra = many_files(ours.dags)
    bench.say("windsock: invoke up")
    with ours.up() as environment:
        place = Location.load(ours.state)
        if place is None:
            raise AssertionError("it is up")
        cluster = Cluster.connect(
            context=place.context, namespace=place.namespace, kubeconfig=kubeconfig or None
        )
        client = ControlClient(environment.control_socket)
        client.barrier(timeout=120)
        bench.measure_idle(ours)
        copies = Copies(
            bench=bench,
            folder=folder,
            cluster=cluster,
            kubectl=Kubectl.find(cluster, DAG_PROCESSOR, kubeconfig=kubeconfig),
        )
        copies.measure_saving(ours, dags)
        for path in extra:
            path.unlink()
        client.barrier(timeout=120)
        copies.measure_readable(dags, client)
        bench.measure_saves(ours, environment, dags, runs=False)
        copies.measure_alone()


@dataclass(kw_only=True)
class Copies:
    """Files on their way into the pod.

    Attributes:
        bench: Has the report, and measures what bench.reload measures as well.
        folder: For the files that travel.
        cluster: With the namespace of the environment.
        kubectl: None where it is not on PATH.
    """

    bench: Bench
    folder: Path
    cluster: Cluster
    kubectl: Kubectl | None

    # --- with Airflow -------------------------------------------------------------------------

    def measure_saving(self, ours: BenchEnvironment, dags: Folder) -> None:
        """What the client costs while a DAG is saved every second."""
        self.bench.say("windsock: a save a second")
        stop = threading.Event()

        def save() -> None:
            while not stop.wait(1.0):
                dags.save_dag("bench_edit", task=dags.fresh("task"))

        thread = threading.Thread(target=save)
        thread.start()
        try:
            used = usage.idle(ours.supervisor(), seconds=IDLE_SECONDS)["sync"]
        finally:
            stop.set()
            thread.join()
        self._add(SAVING_CPU, OURS, ((used.cpu,), ()), unit="%")
        self._add(SAVING_RSS, OURS, ((used.rss,), ()), unit="MiB")

    def measure_readable(self, dags: Folder, client: ControlClient) -> None:
        """A small file that is no DAG, saved and read in the pod."""

        def save_ours(name: str, content: str) -> None:
            dags.save(name, content)

        def between() -> None:
            client.barrier(timeout=60)
            _breathe()

        self._measure_copies(
            READABLE,
            size=SMALL_BYTES,
            ours=(save_ours, f"{STORE}/current"),
            times=self.bench.rounds,
            between=between,
        )

    def _peers(self) -> dict[str, Way]:
        """What the peers do with a file."""
        kubectl = self.kubectl
        if kubectl is None:
            return {}
        place, end = self.folder / "peer", f"{BENCH_STORE}/peer"
        place.mkdir(exist_ok=True)
        kubectl.make_folder(end)

        def tar(name: str, content: str) -> None:
            (place / name).write_text(content, encoding="utf-8")
            kubectl.tar(place, name, end)

        def copy(name: str, content: str) -> None:
            (place / name).write_text(content, encoding="utf-8")
            kubectl.copy(place / name, f"{end}/{name}")

        return {TAR: (tar, end), COPY: (copy, end)}

    def _measure_copies(
        self,
        what: str,
        *,
        size: int,
        ours: Way,
        times: int,
        between: Callable[[], None],
    ) -> None:
        """One file, brought into the pod in several ways."""
        numbers = itertools.count()
        with Reader(self.cluster, DAG_PROCESSOR) as reader:
            for system, (save, end) in {OURS: ours, **self._peers()}.items():

                def sample(system: str = system, save: Save = save, end: str = end) -> float:
                    token = f"# {system} {next(numbers)}"
                    content = "x" * (size - len(token)) + token
                    reader.expect(f"{end}/{COPIED}", token)
                    started = time.monotonic()
                    save(COPIED, content)
                    return reader.seconds_until_read(token, since=started, timeout=60)

                self.bench.say(f"{system}: {what}, {times} times")
                self._add(what, system, repeat(sample, times=times, between=between))

    # --- the sync alone -----------------------------------------------------------------------

    def measure_alone(self) -> None:
        """What takes seconds, without Airflow."""
        root = self.folder / "alone"
        fill(root / "tree", files=FILES, size=FIRST_BYTES)
        self._measure_first(root)
        bare = Bare(root, cluster=self.cluster, store=f"{BENCH_STORE}/alone")
        with bare.running():
            bare.seconds_until_equal(since=0.0)
            self._measure_large(bare)
            self._measure_switch(bare)
            self._measure_reconnect(bare)

    def _times(self) -> int:
        return min(self.bench.rounds, SLOW_ROUNDS)

    def _measure_first(self, root: Path) -> None:
        kubectl, numbers = self.kubectl, itertools.count()

        def ours() -> float:
            bare = Bare(root, cluster=self.cluster, store=f"{BENCH_STORE}/first-{next(numbers)}")
            started = time.monotonic()
            with bare.running():
                return bare.seconds_until_equal(since=started)

        def tar(peer: Kubectl) -> float:
            end = f"{BENCH_STORE}/tar-{next(numbers)}"
            peer.make_folder(end)
            started = time.monotonic()
            peer.tar(root, ".", end)
            return time.monotonic() - started

        self.bench.say(f"{FIRST}, {self._times()} times")
        target = None
        taken: list[tuple[str, Samples]] = []
        if kubectl is not None:
            samples = repeat(lambda: tar(kubectl), times=self._times(), between=_breathe)
            taken.append((TAR, samples))
            target = Target(p50=round(FIRST_TIMES_TAR * statistics.median(samples[0]), 3))
        self._add(FIRST, OURS, repeat(ours, times=self._times(), between=_breathe), target=target)
        for system, samples in taken:
            self._add(FIRST, system, samples)

    def _measure_large(self, bare: Bare) -> None:
        def save_ours(name: str, content: str) -> None:
            hidden = self.folder / "hidden"
            hidden.write_text(content, encoding="utf-8")
            hidden.replace(bare.root / name)

        self._measure_copies(
            LARGE,
            size=LARGE_BYTES,
            ours=(save_ours, f"{bare.store}/current"),
            times=self._times(),
            between=_breathe,
        )

    def _measure_switch(self, bare: Bare) -> None:
        """All files change at one moment: another folder takes the place of theirs."""
        old, fresh = self.folder / "old", self.folder / "fresh"

        def switch() -> float:
            fill(fresh, files=FILES, size=SWITCH_BYTES)
            started = time.monotonic()
            (bare.root / "tree").rename(old)
            fresh.rename(bare.root / "tree")
            seconds = bare.seconds_until_equal(since=started)
            shutil.rmtree(old)
            return seconds

        self.bench.say(f"{SWITCH}, {self._times()} times")
        self._add(SWITCH, OURS, repeat(switch, times=self._times(), between=_breathe))

    def _measure_reconnect(self, bare: Bare) -> None:
        """The stream is cut, and a file is saved at that moment."""
        numbers = itertools.count()

        def reconnect() -> float:
            started = time.monotonic()
            bare.cut()
            (bare.root / "bench_cut.py").write_text(f"# {next(numbers)}\n", encoding="utf-8")
            return bare.seconds_until_equal(since=started)

        self.bench.say(f"{RECONNECT}, {self._times()} times")
        self._add(RECONNECT, OURS, repeat(reconnect, times=self._times(), between=_breathe))

    def _add(
        self,
        what: str,
        system: str,
        taken: Samples,
        *,
        unit: str = "s",
        target: Target | None = None,
    ) -> None:
        samples, failures = taken
        self.bench.report.measurements.append(
            Measurement(
                what=what,
                system=system,
                samples=samples,
                unit=unit,
                target=target or (TARGETS.get(what) if system == OURS else None),
                failures=failures,
            )
        )


def _breathe() -> None:
    """Let the agent's chores of the last sample end."""
    time.sleep(0.5)
