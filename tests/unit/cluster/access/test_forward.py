"""A forwarded port, by a kubectl that is a script of ours; the real one is in tests/cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.fake_api import CONTEXT, NAMESPACE
from windsock.cluster.access.forward import Forward, ForwardSettings
from windsock.cluster.api.client import MANAGED
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.local import orphans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

KUBECTL = f"""#!{sys.executable} -IS
import os, socket, sys
pod, ports = sys.argv[-2:]
with socket.create_server(("127.0.0.1", int(ports.split(":")[0]))) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            said = connection.recv(1000)
            if said == b"end":
                break
            connection.sendall(b"%s, %d: %s" % (pod.encode(), os.getpid(), said))
"""
"""Leads to a pod that answers with its name and what it was told; ends if that is "end"."""
PATIENCE = 30.0
"""Seconds; what is waited for takes milliseconds."""
SOON = 0.01


@pytest.fixture(autouse=True)
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


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
        self.forward = Forward(cluster, settings(api), look=SOON, again=SOON)
        self.port = self.forward.port
        self.raised: list[WindsockError] = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            self.forward.run()
        except WindsockError as error:
            self.raised.append(error)

    def close(self) -> None:
        self.forward.close()
        self.thread.join()


def say(port: int, text: bytes) -> str:
    """What comes back on a connection of its own; nothing where there is no way."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
    ):
        connection.sendall(text)
        return connection.recv(1000).decode()
    return ""


def say_until(port: int, start: str, *, but: str = "") -> str:
    """Say hello until the answer begins so, and is another one; the answer."""
    for _ in range(int(PATIENCE / SOON)):
        answer = say(port, b"hello")
        if answer.startswith(start) and answer.endswith(": hello") and answer != but:
            return answer
        threading.Event().wait(SOON)
    pytest.fail(f"no answer began with {start!r}")


@pytest.fixture
def running(api: FakeApi, cluster: Cluster) -> Iterator[Running]:
    made = Running(api, cluster)
    try:
        yield made
    finally:
        made.close()
    assert say(made.port, b"hello") == "", "kubectl was left running"


def test_the_port_leads_to_the_newest_pod_that_is_ready(api: FakeApi, running: Running) -> None:
    for item in (pod("old"), pod("newer", born=2), pod("newest", ready=False, born=3)):
        api.put(item)
    say_until(running.port, "pod/newer,")


def test_the_port_leads_to_the_next_pod(api: FakeApi, running: Running) -> None:
    api.put(pod("one"))
    say_until(running.port, "pod/one,")
    api.remove(pod("one"))
    api.put(pod("two"))
    say_until(running.port, "pod/two,")


def test_kubectl_is_started_again_after_it_has_ended(api: FakeApi, running: Running) -> None:
    api.put(pod("one"))
    before = say_until(running.port, "pod/one,")
    say(running.port, b"end")
    say_until(running.port, "pod/one,", but=before)


def test_kubectl_is_started_again_after_the_cluster_was_lost(
    api: FakeApi, running: Running
) -> None:
    api.put(pod("one"))
    before = say_until(running.port, "pod/one,")
    api.cut()
    say_until(running.port, "pod/one,", but=before)


def test_without_a_ready_pod_the_port_is_closed(running: Running) -> None:
    assert say(running.port, b"hello") == ""


def test_who_may_no_longer_see_the_pods_ends_and_says_so(api: FakeApi, running: Running) -> None:
    api.answer("GET", "/pods$", 403, "not any more", times=10_000)
    api.answer("WATCH", "/pods$", 403, "not any more", times=10_000)
    api.end_watches()
    running.thread.join(PATIENCE)
    assert ["not any more" in error.message for error in running.raised] == [True]


def test_a_port_that_is_taken_is_named(api: FakeApi, cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFailure, match=f"port {port} of 127.0.0.1 cannot be"):
            Forward(cluster, settings(api, port))


def test_the_kubectl_of_a_killed_process_makes_room_for_the_next(
    api: FakeApi, tmp_path: Path
) -> None:
    api.put(pod("one"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | settings(api, port).as_variable() | orphans.mark(tmp_path)

    def starts() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "windsock.cluster.access.forward"], env=environment
        )

    killed = starts()
    before = say_until(port, "pod/one,")
    killed.kill()
    killed.wait()
    with starts() as after:
        say_until(port, "pod/one,", but=before)
        after.send_signal(signal.SIGTERM)
    assert after.returncode == 0
