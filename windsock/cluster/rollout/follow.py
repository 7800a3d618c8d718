"""Follow a rollout until everything is ready, and find out within seconds why it never will be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from windsock.cluster.access.logs import last_lines
from windsock.cluster.api import workloads
from windsock.cluster.api.client import OURS, name_of
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import component_of, containers, is_going, pods_of, progress_of
from windsock.cluster.dev_mode import is_clone, is_replaced
from windsock.cluster.rollout.reasons.reason import LINES_HINT, SILENT_HINT, Surroundings
from windsock.cluster.rollout.reasons.workload import activity, reasons_of
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.reason import Cause, Reason

RESTARTED = "windsock.dev/restarted-at"
LINES_SHOWN = 15

_INTERESTS = (
    *(
        Interest(api_version=version, kind=kind, selector=OURS)
        for kind, version in workloads.KINDS.items()
    ),
    Interest(api_version="apps/v1", kind="ReplicaSet"),
    Interest(api_version="v1", kind="Pod"),
    Interest(api_version="v1", kind="PersistentVolumeClaim", optional=True),
    Interest(api_version="v1", kind="Event", optional=True),
)
_BROKEN = {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"}


def wait(
    cluster: Cluster,
    objects: Iterable[Object],
    *,
    progress: Callable[[str], None],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until every workload runs its present revision and is ready.

    Args:
        cluster: With the namespace.
        objects: What was applied; only StatefulSets, Jobs and Deployments are waited for.
        progress: Gets the state of the rollout, for example `scheduler 0/1: pulling image`.
        timeout: Seconds.
        clock: Monotonic seconds.

    Raises:
        EnvironmentFailure: A workload will not get ready: which pod, why, and what to do.
        DeadlineExceeded: The rollout took longer.
    """
    wanted = [name_of(item) for item in objects if item["kind"] in workloads.KINDS]
    deadline = clock() + timeout
    with ObjectWatcher(cluster, _INTERESTS) as watcher:
        rollout = _Rollout(cluster, watcher, wanted, clock)
        rollout.replace_broken_pods()
        shown = ""
        while True:
            seen = watcher.changes
            unfinished = rollout.unfinished()
            if not unfinished:
                return
            doing = ", ".join(unfinished.values())
            if doing != shown:
                progress(doing)
                shown = doing
            due = rollout.judge(unfinished)
            remaining = deadline - clock()
            if remaining <= 0:
                raise DeadlineExceeded(
                    f"not rolled out within {timeout:.0f} s: {doing}",
                    f"{rollout.suspicions()}`invoke status` and `invoke logs` show what it does.",
                )
            watcher.wait(seen, timeout=max(min(remaining, due), 0.01))


@dataclass
class _Rollout:
    """The rollout of the workloads of these names, each as `Kind name`."""

    cluster: Cluster
    watcher: ObjectWatcher
    wanted: Sequence[str]
    clock: Callable[[], float]
    reasons: dict[tuple[str, Cause], Reason] = field(default_factory=dict)
    since: dict[tuple[str, Cause], float] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)

    def _all_workloads(self) -> list[Object]:
        return [item for kind in workloads.KINDS for item in self.watcher.items(kind)]

    def _workloads(self) -> list[Object]:
        present = {name_of(item): item for item in self._all_workloads()}
        return [present[name] for name in self.wanted if name in present]

    def _pods(self, workload: Object) -> tuple[list[Object], list[Object]]:
        pods = self.watcher.items("Pod")
        return pods_of(
            workload,
            replica_sets=self.watcher.items("ReplicaSet"),
            # For a moment the watcher still has the pods that we have deleted.
            pods=[pod for pod in pods if pod["metadata"]["uid"] not in self.replaced],
        )

    def _replace(self, pod: Object) -> None:
        self.cluster.delete(pod)
        self.replaced.add(pod["metadata"]["uid"])

    def replace_broken_pods(self) -> None:
        """Replace pods that failed before: Kubernetes tries them again after minutes only."""
        for workload in self._workloads():
            if workload["kind"] != "Job":
                for pod in [pod for pods in self._pods(workload) for pod in pods]:
                    if _is_broken(pod):
                        self._replace(pod)

    def unfinished(self) -> dict[str, str]:
        """`Kind name` of each workload that is not ready → what it is doing."""
        found: dict[str, str] = {}
        present = self._workloads()
        events = self.watcher.items("Event")
        for workload in present:
            done = progress_of(workload)
            if not done.done:
                doing = activity(*self._pods(workload), events)
                name = component_of(workload)
                found[name_of(workload)] = f"{name} {done.ready}/{done.wanted}: {doing}"
        missing = set(self.wanted) - {name_of(item) for item in present}
        return found | {name: f"{name.split()[1]} is not there" for name in missing}

    def judge(self, unfinished: Iterable[str]) -> float:
        """Raise if a reason has lasted longer than its patience; else the seconds until one has."""
        names = set(unfinished)
        around = Surroundings(
            events=self.watcher.items("Event"),
            claims=self.watcher.items("PersistentVolumeClaim"),
            workloads=self._all_workloads(),
            pods=self.watcher.items("Pod"),
        )
        now = self.clock()
        before, self.since, self.reasons = self.since, {}, {}
        due = float("inf")
        for workload in self._workloads():
            if name_of(workload) not in names:
                continue
            current, older = self._pods(workload)
            if workload["kind"] == "StatefulSet":  # It waits for ever for its older pods.
                for pod in older:
                    if _is_broken(pod) and not is_going(pod):
                        self._replace(pod)
            makers = workloads.makers(workload, self.watcher.items("ReplicaSet"))
            for reason in reasons_of(workload, pods=current, makers=makers, around=around):
                since = self.since[reason.identity] = before.get(reason.identity, now)
                self.reasons[reason.identity] = reason
                remaining = since + reason.patience - now
                if remaining <= 0:
                    raise self._failure(workload, reason)
                due = min(due, remaining)
        return due

    def suspicions(self) -> str:
        """The reasons that have not lasted long enough to be sure, a line each."""
        return "".join(f"{reason.about}: {reason.why}\n" for reason in self.reasons.values())

    def _failure(self, workload: Object, reason: Reason) -> EnvironmentFailure:
        lines: list[str] = []
        if reason.container:
            lines = last_lines(
                self.cluster,
                reason.about.removeprefix("Pod "),
                reason.container,
                lines=LINES_SHOWN,
                previous=reason.previous,
            )
        shown = "".join(f"  | {line}\n" for line in lines)
        hint = reason.cause.value
        if not lines:
            hint = hint.replace(LINES_HINT, SILENT_HINT)
        return EnvironmentFailure(
            f"{component_of(workload)} does not get ready: {reason.about}: {reason.why}",
            f"{shown}{hint}".rstrip(),
        )


def _is_broken(pod: Object) -> bool:
    return any(
        ((status.get("state") or {}).get("waiting") or {}).get("reason") in _BROKEN
        for status in containers(pod)
    )


def restart(
    cluster: Cluster,
    components: Sequence[str],
    *,
    progress: Callable[[str], None],
    timeout: float,
) -> None:
    """Give the workloads of some components new pods, and wait until they are ready.

    Raises:
        ConfigurationError: There is no such component.
        EnvironmentFailure: As for `wait`.
    """
    known = [item for item in _listed(cluster) if item["kind"] != "Job"]
    chosen = [item for item in known if component_of(item) in components]
    missing = set(components) - {component_of(item) for item in chosen}
    if missing:
        present = ", ".join(sorted({component_of(item) for item in known})) or "nothing"
        raise ConfigurationError(
            f"{', '.join(sorted(missing))} does not run in namespace {cluster.namespace}",
            f"There is: {present}. `invoke up` brings everything up.",
        )
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    # A clone, with a person's shell in it, has taken the place of some: it must stay.
    chosen = [item for item in chosen if not is_replaced(item)]
    for item in chosen:
        annotations = {"metadata": {"annotations": {RESTARTED: now}}}
        cluster.patch(item, {"spec": {"template": annotations}})
    wait(cluster, chosen, progress=progress, timeout=timeout)


class State(NamedTuple):
    """A component, for example `scheduler`, and `running`, `starting`, `stopped` or `failed`."""

    component: str
    state: str
    detail: str
    """How many pods are ready, or why none is."""


def states(cluster: Cluster) -> list[State]:
    """The state of every component, and of the workers if there are any."""
    pods = cluster.items("v1", "Pod", selector=OURS)
    sets = cluster.items("apps/v1", "ReplicaSet", selector=OURS)
    found = [
        _state_of(item, *pods_of(item, replica_sets=sets, pods=pods))
        for item in _listed(cluster)
        if item["kind"] != "Job" or not progress_of(item).done
    ]
    workers = [pod for pod in pods if component_of(pod) == "worker"]
    if workers:
        running = sum(pod["status"].get("phase") == "Running" for pod in workers)
        detail = f"{running} of {len(workers)} pods running"
        found.append(State(component="worker", state="running", detail=detail))
    return found


def _listed(cluster: Cluster) -> list[Object]:
    return [
        item
        for kind, version in workloads.KINDS.items()
        for item in cluster.items(version, kind, selector=OURS)
        if not is_clone(item)
    ]


def _state_of(workload: Object, pods: Sequence[Object], older: Sequence[Object]) -> State:
    done = progress_of(workload)
    ready = f"{done.ready}/{done.wanted} ready"
    reasons = reasons_of(workload, pods=pods, makers=(), around=Surroundings())
    if done.done and is_replaced(workload):
        state, detail = "stopped", "`okteto up` has taken its place; `okteto down` gives it back"
    elif done.done and done.wanted == 0:
        state, detail = "stopped", "scaled to no pods"
    elif done.done:
        restarts = sum(status.get("restartCount", 0) for pod in pods for status in containers(pod))
        state, detail = "running", ready + (f", restarted {restarts} times" if restarts else "")
    elif reason := next(reasons, None):
        state, detail = "failed", f"{reason.about}: {reason.why}"
    else:
        state, detail = "starting", f"{ready}: {activity(pods, older, ())}"
    return State(component=component_of(workload), state=state, detail=detail)
