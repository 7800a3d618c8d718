"""What becomes of the pods of tasks: when each is made, runs and goes, and the CPU time it took."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from windsock.cluster.api import workloads
from windsock.cluster.api.workloads import containers
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import LineStream, Object

WATCH_SECONDS = 3600
SAMPLE_SECONDS = 0.02
"""How often the CPU time of a living pod is read: its cgroup goes when it does."""

CGROUPS = Path("/sys/fs/cgroup")
ROOTS = ("cpuacct/kubepods", "cpuacct/kubepods.slice", "kubepods", "kubepods.slice")
"""The cgroups of a kubelet's pods: cgroup 1 and 2, with cgroupfs and with systemd."""


@dataclass(kw_only=True)
class PodTimes:
    """Of one pod. Times are seconds since the epoch, as the cluster reported them; None: not yet.

    Attributes:
        uid: Of the pod.
        created: It was made.
        running: Its container runs.
        gone: It was deleted.
        cpu: CPU seconds of all its processes; None where the node is another machine.
    """

    uid: str
    created: float
    running: float | None = None
    gone: float | None = None
    cpu: float | None = None


class WorkerPods:
    """Watches the pods of tasks in a namespace, from `__enter__` to `__exit__`.

    Args:
        cluster: With the namespace.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._selector = workloads.selector("worker")
        self._pods: dict[str, PodTimes] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._failure = ""
        self._stream: LineStream | None = None
        self._threads = [
            threading.Thread(target=run, name=f"windsock-bench-{name}", daemon=True)
            for name, run in (("pods", self._watch), ("cpu", self._sample))
        ]

    def __enter__(self) -> Self:
        _, version = self._cluster.listing("v1", "Pod", selector=self._selector)
        self._stream = self._cluster.watch(
            "v1", "Pod", version=version, selector=self._selector, seconds=WATCH_SECONDS
        )
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float, *, count: int, timeout: float) -> list[PodTimes]:
        """The pods that were made since a moment, when all of them are gone.

        Args:
            moment: Seconds since the epoch.
            count: How many there must be.
            timeout: In seconds.

        Raises:
            DeadlineExceeded: They were not made, or did not go.
            EnvironmentFailure: The watch ended.
        """

        def made() -> list[PodTimes]:
            return [pod for pod in self._pods.values() if pod.created >= moment]

        def all_gone() -> bool:
            found = made()
            return len(found) >= count and all(pod.gone is not None for pod in found)

        with self._changed:
            self._changed.wait_for(lambda: all_gone() or self._failure, timeout)
            if self._failure:
                raise EnvironmentFailure(f"the watch of pods ended: {self._failure}")
            if not all_gone():
                gone = sum(pod.gone is not None for pod in made())
                raise DeadlineExceeded(
                    f"of {count} pods {len(made())} were made and {gone} are gone "
                    f"after {timeout:.0f} s"
                )
            return made()

    # --- the threads --------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._stream is None:
            raise AssertionError("started by __enter__ alone")
        reason = "the cluster closed it"
        try:
            for line in self._stream:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    reason = str(event["object"].get("message"))
                    break
                self._take(event["type"], event["object"], time.time())
        except OSError as error:
            reason = str(error)
        with self._changed:
            self._failure = reason
            self._changed.notify_all()

    def _take(self, change: str, item: Object, now: float) -> None:
        uid = item["metadata"]["uid"]
        with self._changed:
            pod = self._pods.setdefault(uid, PodTimes(uid=uid, created=now))
            states = [status.get("state") or {} for status in containers(item)]
            if pod.running is None and any("waiting" not in state for state in states if state):
                pod.running = now
            if change == "DELETED":
                pod.gone = now
            self._changed.notify_all()

    def _sample(self) -> None:
        files: dict[str, Path] = {}
        while not self._stopping.wait(SAMPLE_SECONDS):
            with self._changed:
                living = [pod for pod in self._pods.values() if pod.gone is None]
            for pod in living:
                path = files.get(pod.uid) or _usage_file(pod.uid)
                if path is not None:
                    files[pod.uid] = path
                    with contextlib.suppress(OSError):  # the cgroup is gone
                        pod.cpu = _cpu_seconds(path)


def _usage_file(uid: str) -> Path | None:
    """Where the kernel counts a pod's CPU time, if the node is this machine."""
    names = (f"pod{uid}", f"*pod{uid.replace('-', '_')}.slice")
    for root in (CGROUPS / name for name in ROOTS):
        if not root.is_dir():
            continue
        for folder in (root, *root.glob("*burstable*"), *root.glob("*besteffort*")):
            for name in names:
                for found in folder.glob(name):
                    usage = found / "cpuacct.usage"
                    return usage if usage.exists() else found / "cpu.stat"
    return None


def _cpu_seconds(path: Path) -> float:
    text = path.read_text(encoding="ascii")
    if path.name == "cpuacct.usage":  # nanoseconds
        return int(text) / 1e9
    return int(text.split()[1]) / 1e6  # the first line is `usage_usec N`
