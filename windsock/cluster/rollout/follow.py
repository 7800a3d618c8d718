"""Follow a rollout until everything is ready, and find out within seconds why it never will be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from windsock.cluster.access.logs import last_lines
from windsock.cluster.api import workloads
from windsock.cluster.api.client import OURS, name_of
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import component_of, containers, is_going, pods_of, progress_of
from windsock.cluster.dev_mode import is_clone, is_replaced
from windsock.cluster.rollout.reasons import Reason, Surroundings, activity, reasons_of
from windsock.cluster.rollout.reasons.reason import LINES_HINT, SILENT_HINT, Cause
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

RESTARTED = "windsock.dev/restarted-at"
LINES_SHOWN = 15

_WORKLOADS = tuple(
    Interest(api_version=version, kind=kind, selector=OURS)
    for kind, version in workloads.KINDS.items()
)
_INTERESTS = (
    *_WORKLOADS,
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
        objects: What was applied; what is no StatefulSet, Job or Deployment is not waited for.
        progress: Gets what is going on, for example `scheduler 0/1: pulling image`.
        timeout: Seconds.
        clock: Monotonic seconds.

    Raises:
        EnvironmentFailure: A workload will not get ready: which pod, why, and what to do.
        DeadlineExceeded: It took longer.
    """
    wanted = [(item["kind"], item["metadata"]["name"]) for item in objects if _is_workload(item)]
    deadline = clock() + timeout
    with ObjectWatcher(cluster, _INTERESTS) as observer:
        rollout = _Rollout(cluster, observer, wanted, clock=clock)
        rollout.start_afresh()
        shown = ""
        while True:
            seen = observer.changes
            unfinished = rollout.unfinished()
            if not unfinished:
                return
            doing = ", ".join(unfinished.values())
            if doing != shown:
                progress(doing)
                shown = doing
            due = rollout.judge(unfinished)
            remaining = min(deadline - clock(), due)
            if deadline - clock() <= 0:
                raise DeadlineExceeded(
                    f"not rolled out within {timeout:.0f} s: {doing}",
                    f"{rollout.suspicions()}`invoke status` and `invoke logs` show what it does.",
                )
            observer.wait(seen, timeout=max(remaining, 0.01))


def _is_workload(item: Object) -> bool:
    return item["kind"] in workloads.KINDS


@dataclass
class _Lasting:
    """A reason that lasts."""

    reason: Reason
    since: float


class _Rollout:
    """Some workloads on their way.

    Args:
        cluster: For logs, and for pods that must be replaced.
        observer: What is in the namespace.
        wanted: Kind and name of each.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        observer: ObjectWatcher,
        wanted: Sequence[tuple[str, str]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._wanted = wanted
        self._clock = clock
        self._lasting: dict[tuple[str, Cause], _Lasting] = {}
        self._replaced: set[str] = set()

    def _workloads(self) -> list[Object]:
        there = {
            (kind, item["metadata"]["name"]): item
            for kind in workloads.KINDS
            for item in self._observer.items(kind)
        }
        return [there[key] for key in self._wanted if key in there]

    def _pods(self, workload: Object) -> tuple[list[Object], list[Object]]:
        pods = self._observer.items("Pod")
        return pods_of(
            workload,
            replica_sets=self._observer.items("ReplicaSet"),
            # What we have deleted is seen as it was before for a moment.
            pods=[pod for pod in pods if pod["metadata"]["uid"] not in self._replaced],
        )

    def _replace(self, pod: Object) -> None:
        self._cluster.delete(pod)
        self._replaced.add(pod["metadata"]["uid"])

    def start_afresh(self) -> None:
        """Replace pods that failed before: Kubernetes tries them again after minutes only."""
        for workload in self._workloads():
            if workload["kind"] != "Job":
                for pod in [pod for pods in self._pods(workload) for pod in pods]:
                    if _is_broken(pod):
                        self._replace(pod)

    def unfinished(self) -> dict[str, str]:
        """Name of each workload that is not ready → what it is doing."""
        found: dict[str, str] = {}
        there = self._workloads()
        events = self._observer.items("Event")
        for workload in there:
            done = progress_of(workload)
            if not done.done:
                current, older = self._pods(workload)
                doing = activity(current, older, events)
                name = component_of(workload)
                found[name_of(workload)] = f"{name} {done.ready}/{done.wanted}: {doing}"
        missing = set(self._wanted) - {(item["kind"], item["metadata"]["name"]) for item in there}
        return found | {f"{kind} {name}": f"{name} is not there" for kind, name in missing}

    def judge(self, unfinished: Iterable[str]) -> float:
        """Look for what will not get better; seconds until the next look is due.

        Raises:
            EnvironmentFailure: Something lasts for too long.
        """
        names = set(unfinished)
        around = Surroundings(
            events=self._observer.items("Event"),
            claims=self._observer.items("PersistentVolumeClaim"),
            workloads=[item for kind in workloads.KINDS for item in self._observer.items(kind)],
            pods=self._observer.items("Pod"),
        )
        now = self._clock()
        lasting: dict[tuple[str, Cause], _Lasting] = {}
        for workload in self._workloads():
            if name_of(workload) not in names:
                continue
            current, older = self._pods(workload)
            self._unstick(workload, older)
            makers = workloads.makers(workload, self._observer.items("ReplicaSet"))
            for reason in reasons_of(workload, pods=current, makers=makers, around=around):
                known = self._lasting.get(reason.identity)
                since = known.since if known else now
                lasting[reason.identity] = _Lasting(reason, since)
                if now - since >= reason.patience:
                    raise self._failure(workload, reason)
        self._lasting = lasting
        due = [each.since + each.reason.patience - now for each in lasting.values()]
        return min(due, default=float("inf"))

    def suspicions(self) -> str:
        """What has been found and has not lasted long enough to be sure, a line each."""
        reasons = (each.reason for each in self._lasting.values())
        return "".join(f"{reason.about}: {reason.why}\n" for reason in reasons)

    def _unstick(self, workload: Object, older: Iterable[Object]) -> None:
        """Replace broken pods of an old revision: a StatefulSet waits for them for ever."""
        if workload["kind"] == "StatefulSet":
            for pod in older:
                if _is_broken(pod) and not is_going(pod):
                    self._replace(pod)

    def _failure(self, workload: Object, reason: Reason) -> EnvironmentFailure:
        lines: list[str] = []
        if reason.container:
            lines = last_lines(
                self._cluster,
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


# --- restart --------------------------------------------------------------------------------------


def restart(
    cluster: Cluster,
    components: Sequence[str],
    *,
    progress: Callable[[str], None],
    timeout: float,
) -> None:
    """Give the workloads of some components new pods, and wait until they are ready.

    Args:
        cluster: With the namespace.
        components: For example `scheduler`.
        progress: Gets what is going on.
        timeout: Seconds.

    Raises:
        ConfigurationError: There is no such component.
        EnvironmentFailure: As for `wait`.
    """
    known = [item for item in _listed(cluster) if item["kind"] != "Job"]
    chosen = [item for item in known if component_of(item) in components]
    missing = set(components) - {component_of(item) for item in chosen}
    if missing:
        there = ", ".join(sorted({component_of(item) for item in known})) or "nothing"
        raise ConfigurationError(
            f"{', '.join(sorted(missing))} does not run in namespace {cluster.namespace}",
            f"There is: {there}. `invoke up` brings everything up.",
        )
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    # The place of some is taken by a clone with a person's shell in it, which must stay.
    chosen = [item for item in chosen if not is_replaced(item)]
    for item in chosen:
        annotations = {"metadata": {"annotations": {RESTARTED: now}}}
        cluster.patch(item, {"spec": {"template": annotations}})
    wait(cluster, chosen, progress=progress, timeout=timeout)


# --- status ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of one component in the cluster.

    Attributes:
        component: For example `scheduler`.
        state: `running`, `starting`, `stopped` or `failed`.
        detail: What a person wants to know besides.
    """

    component: str
    state: str
    detail: str


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
    name = component_of(workload)
    around = Surroundings()
    bad = next(iter(reasons_of(workload, pods=pods, makers=(), around=around)), None)
    if done.done:
        if is_replaced(workload):
            detail = "`okteto up` has taken its place; `okteto down` gives it back"
            return State(component=name, state="stopped", detail=detail)
        if done.wanted == 0:
            return State(component=name, state="stopped", detail="scaled to no pods")
        restarts = sum(status.get("restartCount", 0) for pod in pods for status in containers(pod))
        again = f", restarted {restarts} times" if restarts else ""
        detail = f"{done.ready}/{done.wanted} ready{again}"
        return State(component=name, state="running", detail=detail)
    if bad is not None:
        return State(component=name, state="failed", detail=f"{bad.about}: {bad.why}")
    doing = activity(pods, older, ())
    detail = f"{done.ready}/{done.wanted} ready: {doing}"
    return State(component=name, state="starting", detail=detail)
