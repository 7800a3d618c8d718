"""A forwarded port, to pods that come and go while the watch of them ends or breaks."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.fake_api import CONTEXT, NAMESPACE
from windsock.cluster.access.forward import Forward, ForwardSettings
from windsock.cluster.api.client import MANAGED
from windsock.errors import EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

PATIENCE = 30.0
"""Seconds; what is waited for takes milliseconds."""
SOON = 0.01


def pod(name: str, *, ready: bool = True, born: int = 1) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    metadata = {"labels": MANAGED, "creationTimestamp": f"2026-01-01T00:00:{born:02}Z"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "status": {"phase": "Running", "conditions": conditions},
    }


def settings(api: FakeApi, port: int = 0) -> ForwardSettings:
    return ForwardSettings(
        context=CONTEXT,
        kubeconfig=api.kubeconfig,
        namespace=NAMESPACE,
        selector="app.kubernetes.io/part-of=windsock",
        remote_port=8080,
        local_port=port,
    )


class Running:
    """A forward in a thread, and what it raised in the end."""

    def __init__(self, api: FakeApi, cluster: Cluster) -> None:
        self._forward = Forward(cluster, settings(api))
        self.port = self._forward.port
        self.raised: list[WindsockError] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._forward.run()
        except WindsockError as error:
            self.raised.append(error)

    def close(self) -> None:
        self._forward.close()
        self.thread.join()

    def say(self, text: bytes) -> bytes:
        """What comes back on a connection of its own; nothing where it is closed at once."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection,
        ):
            connection.sendall(text)
            return connection.recv(1000)
        return b""

    def say_until(self, text: bytes, expected: bytes) -> None:
        """Say it again until that comes back: a change of pods is seen a moment later."""
        for _ in range(int(PATIENCE / SOON)):
            if self.say(text) == expected:
                return
            threading.Event().wait(SOON)
        pytest.fail(f"{expected!r} never came back")


@pytest.fixture
def running(api: FakeApi, cluster: Cluster) -> Iterator[Running]:
    made = Running(api, cluster)
    try:
        yield made
    finally:
        made.close()


def test_a_connection_leads_to_the_newest_pod_that_is_ready(api: FakeApi, running: Running) -> None:
    for item in (pod("old"), pod("newer", born=2), pod("newest", ready=False, born=3)):
        api.put(item)
    running.say_until(b"hello", b"newer: hello")


def test_the_next_connection_leads_to_the_next_pod_also_after_the_watch_was_cut(
    api: FakeApi, running: Running
) -> None:
    api.put(pod("one"))
    running.say_until(b"hello", b"one: hello")
    api.cut()
    api.remove(pod("one"))
    api.put(pod("two"))
    running.say_until(b"hello", b"two: hello")


def test_a_connection_ends_with_its_pod(api: FakeApi, running: Running) -> None:
    api.put(pod("one"))
    running.say_until(b"hello", b"one: hello")
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        connection.sendall(b"hello")
        assert connection.recv(1000) == b"one: hello"
        api.cut()
        assert connection.recv(1000) == b""


def test_without_a_ready_pod_a_connection_is_closed_at_once(running: Running) -> None:
    assert running.say(b"hello") == b""


def test_who_may_no_longer_see_the_pods_ends_and_says_so(api: FakeApi, running: Running) -> None:
    api.answer("GET", "/pods$", 403, "not any more", times=10_000)
    api.answer("WATCH", "/pods$", 403, "not any more", times=10_000)
    api.end_watches()
    for _ in range(int(PATIENCE / SOON)):
        running.say(b"hello")
        running.thread.join(SOON)
        if not running.thread.is_alive():
            break
    assert ["not any more" in error.message for error in running.raised] == [True]


def test_a_port_that_is_taken_is_named(api: FakeApi, cluster: Cluster, running: Running) -> None:
    with pytest.raises(EnvironmentFailure, match=f"port {running.port} of 127.0.0.1 cannot be"):
        Forward(cluster, settings(api, running.port))
