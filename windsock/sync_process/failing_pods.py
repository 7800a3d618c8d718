"""Tells of each component in a cluster whose container ends again and again.

Kubernetes starts it again and again, and in between its pod looks healthy.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.events import ComponentRecovered
from windsock.local.crashes import LAST_WORDS
from windsock.sync_process.failing import ENDS, RECOVERED_SECONDS, failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.reason import Reason
    from windsock.events import Event

LOOK_SECONDS = 5.0
"""Between two looks: each asks for a list of a few pods."""
ANSWER_SECONDS = 10.0
"""Until a cluster that does not answer is given up for this look."""


class FailingPods:
    """Looks at the pods of an environment, those of tasks left out.

    Args:
        connect: Gives the cluster, with the namespace.
        publish: Gets `ComponentFailing` and `ComponentRecovered`.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Cluster],
        *,
        publish: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._publish = publish
        self._clock = clock
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._failing: dict[str, tuple[str, float]] = {}
        """Component → the uid of its pod, and when that was in a loop."""

    def run(self, stop: threading.Event) -> None:
        """Look now and then, until `stop` is set."""
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Tell what is news; a cluster that does not answer has none."""
        if not self._lock.acquire(timeout=ANSWER_SECONDS):
            return
        try:
            with suppress(WindsockError):
                self._look()
        finally:
            self._lock.release()

    def _look(self) -> None:
        from windsock.cluster.api.client import OURS  # noqa: PLC0415 - heavy, and only on clusters
        from windsock.cluster.api.workloads import COMPONENT, component_of  # noqa: PLC0415 - the same

        self._cluster = self._cluster or self._connect().within(ANSWER_SECONDS)
        pods = self._cluster.items("v1", "Pod", selector=f"{OURS},{COMPONENT}!=worker")
        now = self._clock()
        for pod in pods:
            name = component_of(pod)
            if reason := _loop(pod):
                if name not in self._failing:
                    words = _last_words(self._cluster, pod, reason)
                    self._publish(failing(name, f"ends again and again: {reason.why}", words))
                self._failing[name] = (pod["metadata"]["uid"], now)
        present = {pod["metadata"]["uid"] for pod in pods}
        for name, (uid, seen) in list(self._failing.items()):
            if uid not in present or now - seen >= RECOVERED_SECONDS:
                del self._failing[name]
                self._publish(ComponentRecovered(component=name))


def _loop(pod: Object) -> Reason | None:
    """Why a container of a pod has ended so often that it is no accident; None if none has."""
    from windsock.cluster.api.workloads import containers  # noqa: PLC0415 - as above
    from windsock.cluster.rollout.reasons.containers import crashes  # noqa: PLC0415 - as above

    often = {each["name"] for each in containers(pod) if each.get("restartCount", 0) + 1 >= ENDS}
    for reason in crashes(pod, (), judged_since=None):
        if reason.patience == 0 and reason.container in often:  # Kubernetes calls it a crash loop.
            return reason
    return None


def _last_words(cluster: Cluster, pod: Object, reason: Reason) -> str:
    from windsock.cluster.access.logs import last_lines  # noqa: PLC0415 - as above

    name, container = pod["metadata"]["name"], reason.container
    return "\n".join(
        last_lines(cluster, name, container, lines=LAST_WORDS, previous=reason.previous)
    )
