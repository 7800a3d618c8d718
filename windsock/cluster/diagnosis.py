"""Why a pod does not get ready: read from its status and its events, as a person would.

Nothing here asks the cluster or knows the time: `findings` looks at what is there, and says for how
long each finding must last before it counts. Most states that end a rollout are passed through by
healthy ones, too: a volume is unbound, and a node full, for some moments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.workloads import condition, containers, has_condition, is_going

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from windsock.cluster.connection import Object


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that keeps a workload from getting ready.

    Attributes:
        about: What it is about, for example `Pod airflow-scheduler-5c9f-x2x`.
        why: What is wrong, one sentence.
        hint: What to do about it.
        patience: Seconds it must last before it counts as a failure.
        container: Whose last log lines tell more; empty where there are none.
        previous: Whether these are of the container before the present one.
    """

    about: str
    why: str
    hint: str = ""
    patience: float = 0.0
    container: str = ""
    previous: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        """What is the same as long as it lasts: the words of a message may change."""
        return self.about, self.hint


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is in the namespace beside the workload.

    Attributes:
        events: All events.
        claims: All volume claims.
        leaving: Whether pods of ours are just going, which frees what they held.
    """

    events: Sequence[Object]
    claims: Sequence[Object]
    leaving: bool = False

    def of(self, item: Object) -> list[Object]:
        """The events about one object, the latest last."""
        uid = item["metadata"]["uid"]
        about = [event for event in self.events if event["involvedObject"].get("uid") == uid]
        return sorted(about, key=_time_of)


def _time_of(event: Object) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(time) for time in times if time), "")


# --- a whole workload ---------------------------------------------------------------------------


def findings(
    workload: Object, *, pods: Sequence[Object], makers: Sequence[Object], around: Surroundings
) -> Iterator[Finding]:
    """Everything that keeps a workload from getting ready.

    Args:
        workload: As it is on the cluster.
        pods: Of its present revision.
        makers: What makes its pods: itself, or a ReplicaSet.
        around: What else is in the namespace.
    """
    if workload["kind"] == "Job":
        yield from _job(workload, pods)
    else:
        for pod in pods:
            yield from _crashes(pod, around.of(pod))
    for pod in pods:
        if not is_going(pod):
            yield from _waiting_containers(pod)
            yield from _placement(pod, around)
            yield from _volumes(pod, around)
            yield from _probes(pod, around.of(pod))
    if not pods:
        for maker in makers:
            yield from _not_made(maker, around.of(maker))
    late = condition(workload, "Progressing", status="False")
    if late is not None and late.get("reason") == "ProgressDeadlineExceeded":
        yield Finding(about=_name(workload), why=str(late.get("message", "it does not progress")))


def _name(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _not_made(maker: Object, events: Sequence[Object]) -> Iterator[Finding]:
    for event in events[-1:]:
        if event["reason"] != "FailedCreate":
            continue
        message = _after_colon(event["message"])
        if "exceeded quota" in message:
            hint = "Free some of the namespace's quota, or ask for more: `kubectl get quota`."
        elif "PodSecurity" in message:
            hint = "The namespace enforces a PodSecurity profile that the pod does not fulfil."
        elif "serviceaccount" in message and "not found" in message:
            # Kubernetes makes an account usable a moment after it was applied.
            yield Finding(about=_name(maker), why=message, patience=15.0)
            continue
        else:
            hint = "The cluster's admission rules forbid the pod."
        why = f"its pod may not be made: {message}"
        yield Finding(about=_name(maker), why=why, hint=hint, patience=2.0)


def _after_colon(message: str) -> str:
    return re.sub(r"^(Error creating: |create Pod \S+ in \S+ \S+ failed error: )", "", message)


# --- containers that ended ----------------------------------------------------------------------


def _job(job: Object, pods: Sequence[Object]) -> Iterator[Finding]:
    """A Job tries again some times; a second failure, or no new try for long, ends our patience."""
    failed = [pod for pod in pods if pod["status"].get("phase") == "Failed"]
    over = condition(job, "Failed", status="True")
    if not failed:
        if over is not None:
            why = f"it failed: {over.get('message', 'no pod is left')}"
            yield Finding(about=_name(job), why=why)
        return
    pod = failed[-1]
    active = any(pod["status"].get("phase") in {"Pending", "Running"} for pod in pods)
    patience = 0.0 if over is not None or len(failed) > 1 else 15.0 + 60.0 * active
    yield _failed_pod(job, pod, patience=patience)


def _failed_pod(job: Object, pod: Object, *, patience: float) -> Finding:
    about = f"Pod {pod['metadata']['name']}"
    for status in containers(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode") != 0:
            return Finding(
                about=about,
                why=f"{_component_word(job)} failed: {_ending(ended, pod)}",
                hint=_LINES_HINT,
                patience=patience,
                container=status["name"],
            )
    why = pod["status"].get("message") or pod["status"].get("reason") or "its pod failed"
    return Finding(about=about, why=str(why), patience=patience)


def _component_word(job: Object) -> str:
    labels = job["metadata"].get("labels") or {}
    migrates = labels.get("app.kubernetes.io/component") == "migrate"
    return "the migration of the database" if migrates else "the Job"


def _ending(ended: Mapping[str, Any], pod: Object) -> str:
    if ended.get("reason") == "OOMKilled":
        limits = [
            (container.get("resources") or {}).get("limits", {}).get("memory")
            for container in pod["spec"]["containers"]
        ]
        limit = next((limit for limit in limits if limit), "its limit")
        return f"it needed more memory than {limit} and was killed"
    message = f": {ended['message'].strip()}" if ended.get("message") else ""
    return f"it ended with exit code {ended.get('exitCode')}{message}"


def _crashes(pod: Object, events: Sequence[Object]) -> Iterator[Finding]:
    """Containers that end and are started again, over and over."""
    probe = _killed_by_probe(events)
    for status in containers(pod):
        state = status.get("state") or {}
        ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
        if is_going(pod) or not ended or status.get("ready"):
            continue
        count = int(status.get("restartCount", 0)) + 1
        looping = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        if looping or probe:
            patience = 0.0
        elif "terminated" in state and ended.get("exitCode") != 0:
            patience = _ENDED_PATIENCE if count == 1 else _ENDED_AGAIN_PATIENCE
        else:
            continue
        again = f", {count} times" if count > 1 else ""
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"it was restarted, because its {probe}" if probe else _ending(ended, pod) + again,
            hint=_PROBE_HINT if probe else _LINES_HINT,
            patience=patience,
            container=status["name"],
            previous="terminated" not in state,
        )


_ENDED_PATIENCE = 15.0
_ENDED_AGAIN_PATIENCE = 3.0
"""Kubernetes starts a container again at once, or soon says that it is in a crash loop."""

_LINES_HINT = "Above: its last lines."
_PROBE_HINT = "It starts too slowly or is stuck. Above: its last lines."


def _killed_by_probe(events: Sequence[Object]) -> str:
    for event in reversed(events):
        if event["reason"] == "Killing" and "probe" in event["message"]:
            failures = [other for other in events if other["reason"] == "Unhealthy"]
            return str((failures or [event])[-1]["message"]).strip()
    return ""


# --- containers that do not start ---------------------------------------------------------------

_IMAGE_HINT = (
    "`invoke build` makes it in this machine's Docker. A cluster whose nodes use another one needs "
    "a registry that both reach; name yours in invoke.yaml:\n"
    "windsock:\n  cluster:\n    registry: ghcr.io/anna"
)
_REGISTRY_HINT = (
    "Can the cluster's nodes reach that registry? One that wants a login needs a Secret of it in "
    "the namespace, named in invoke.yaml: windsock.cluster.pull_secret (docs/kubernetes.md)."
)
_STUCK: dict[str, tuple[str, float]] = {
    "ErrImageNeverPull": (_IMAGE_HINT, 0.0),
    "ErrImagePull": (_IMAGE_HINT, 4.0),
    "ImagePullBackOff": (_IMAGE_HINT, 1.0),
    "InvalidImageName": ("Check the image's name in kube/ and invoke.yaml.", 0.0),
    "ImageInspectError": (_IMAGE_HINT, 2.0),
    "RegistryUnavailable": ("The registry does not answer the cluster.", 4.0),
    "CreateContainerConfigError": (
        "Something that the container needs is missing: a Secret, a ConfigMap or a key in one.",
        3.0,
    ),
    "CreateContainerError": ("The node cannot make the container.", 5.0),
    "RunContainerError": ("The node cannot start the container: is its command in the image?", 2.0),
}
"""Reason of a waiting container → what to do, and the patience with it in seconds."""


def _waiting_containers(pod: Object) -> Iterator[Finding]:
    for status in containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason not in _STUCK:
            continue
        hint, patience = _STUCK[reason]
        if hint == _IMAGE_HINT and "/" in status.get("image", ""):
            hint = _REGISTRY_HINT
        words = f": {waiting['message'].strip()}" if waiting.get("message") else ""
        image = f" {status.get('image')}" if "Image" in reason else ""
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"{reason}{image}{words}",
            hint=hint,
            patience=patience,
        )


# --- pods without a node, volumes, probes ---------------------------------------------------------


def _placement(pod: Object, around: Surroundings) -> Iterator[Finding]:
    placed = condition(pod, "PodScheduled", status="False")
    if placed is None or placed.get("reason") != "Unschedulable":
        return
    events = around.of(pod)
    if any(event["reason"] == "TriggeredScaleUp" for event in events):
        return  # a node is being added for it
    message = str(placed.get("message", ""))
    if "unbound" in message or "persistentvolumeclaim" in message.lower():
        hint = "It waits for a volume: `kubectl get pvc,storageclass`."
        patience = 20.0
    elif "Insufficient" in message:
        hint = "Give the cluster more, or ask for less: the requests in kube/."
        patience = 60.0 if around.leaving else 6.0
    else:
        hint = "The cluster's scheduler finds no node for it."
        patience = 8.0
    yield Finding(
        about=f"Pod {pod['metadata']['name']}",
        why=f"it cannot be scheduled: {message}",
        hint=hint,
        patience=patience,
    )


_HARMLESS_CLAIM_EVENTS = {"WaitForFirstConsumer", "WaitForPodScheduled", "ExternalProvisioning"}


def _volumes(pod: Object, around: Surroundings) -> Iterator[Finding]:
    names = {
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in pod["spec"].get("volumes") or []
    }
    for claim in around.claims:
        if claim["metadata"]["name"] in names and claim["status"].get("phase") != "Bound":
            yield from _claim(claim, around.of(claim))
    mounting = [
        event
        for event in around.of(pod)
        if event["reason"] in {"FailedMount", "FailedAttachVolume"}
    ]
    if mounting and not any(status.get("started") for status in containers(pod)):
        said = str(mounting[-1]["message"])
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"a volume cannot be mounted: {said}",
            hint="What it names is missing, or the volume is in use on another node.",
            # A node may see what its pods name a moment after it has got the pod, and tries again.
            patience=60.0 if "no relationship found between node" in said else 12.0,
        )


def _claim(claim: Object, events: Sequence[Object]) -> Iterator[Finding]:
    name = f"PersistentVolumeClaim {claim['metadata']['name']}"
    if claim["status"].get("phase") == "Lost":
        yield Finding(about=name, why="its volume is lost", hint="`invoke down --volumes`")
        return
    bad = [event for event in events if event["reason"] not in _HARMLESS_CLAIM_EVENTS]
    failing = [
        event for event in bad if event["type"] != "Normal" or event["reason"] == "FailedBinding"
    ]
    if failing:
        yield Finding(
            about=name,
            why=f"it gets no volume: {failing[-1]['message']}",
            hint="The cluster needs a default StorageClass, or kube/ must name one: "
            "`kubectl get storageclass`.",
            patience=5.0,
        )


def _probes(pod: Object, events: Sequence[Object]) -> Iterator[Finding]:
    """A container that runs and never gets ready; one that still starts has its startup probe."""
    if pod["status"].get("phase") != "Running" or has_condition(pod, "Ready"):
        return
    failing = [event for event in events if event["reason"] == "Unhealthy"]
    if failing and all(status.get("started") for status in containers(pod)):
        status = next((s for s in containers(pod) if not s.get("ready")), None)
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"it runs, but is not ready: {str(failing[-1]['message']).strip()}",
            hint=_PROBE_HINT,
            patience=60.0,
            container=status["name"] if status else "",
        )


# --- what a pod is doing --------------------------------------------------------------------------


def activity(pods: Sequence[Object], older: Sequence[Object], events: Iterable[Object]) -> str:
    """What the pods of a workload are doing, in a few words."""
    if not pods or is_going(pods[-1]):
        return "stopping the old pod" if pods or older else "making a pod"
    pod = pods[-1]
    if condition(pod, "PodScheduled", status="False") is not None:
        return "waiting for a node"
    states = [status.get("state") or {} for status in containers(pod)]
    waiting = next((state["waiting"] for state in states if "waiting" in state), None)
    if waiting is not None:
        return _waiting_words(str(waiting.get("reason", "")), pod, events)
    if has_condition(pod, "Ready"):
        return "stopping the old pod" if older else "ready"
    return "starting" if states else "being placed on a node"


def _waiting_words(reason: str, pod: Object, events: Iterable[Object]) -> str:
    uid = pod["metadata"]["uid"]
    seen = [event["reason"] for event in events if event["involvedObject"].get("uid") == uid]
    if "Pulling" in seen and "Pulled" not in seen:
        return "pulling image"
    if reason in {"ContainerCreating", "PodInitializing", ""}:
        return "making the container"
    return reason
