"""The sync agent and a shell in a real pod, over a real exec."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.relay import RELAY, proxied, relayed
from tests.cluster.room import SLEEP, deployment, eventually, namespace, settings, silent
from windsock import events
from windsock.cluster.access import streams
from windsock.cluster.access.shell import run
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.workloads import ready_pod
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.store.agent import Options
from windsock.store.entries import canonical, identify
from windsock.sync import protocol
from windsock.sync.session import SyncSession
from windsock.sync.times import SyncTimes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess

pytestmark = pytest.mark.cluster

DAG_PROCESSOR = "dag-processor"
STORE = "/tmp/store"
FAST = SyncTimes(quiet=0.005, longest=0.1, retry_first=0.05, retry_longest=0.5)
LOOK = """
import os, pathlib, sys
def lines():
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name != str(os.getpid()):
            try:
                yield path.read_bytes()
            except OSError:
                pass
print(sum(sys.argv[1].encode() in line for line in lines()))
"""
ASK = """
until [ "$(stty size)" = "33 111" ]; do sleep 0.1; done
stty size
read x
until [ "$(stty size)" = "44 122" ]; do sleep 0.1; done
echo got $x in $(stty size)
exit 9
"""
RUN = """
import sys
from windsock.cluster.access import shell
from windsock.cluster.api.client import Cluster
context, namespace, kubeconfig, interactive, *command = sys.argv[1:]
cluster = Cluster.connect(context=context, namespace=namespace, kubeconfig=kubeconfig)
interactive = interactive == "tty"
sys.exit(shell.run(cluster, "dag-processor", command, interactive=interactive))
"""


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        item = deployment(DAG_PROCESSOR, SLEEP)
        apply(room, [item], progress=silent)
        rollout.wait(room, [item], progress=silent, timeout=120)
        yield room


def command(cluster: ClusterAccess, room: Cluster, mode: str, *arguments: str) -> list[str]:
    place = [cluster.context, room.namespace, str(cluster.kubeconfig)]
    return [sys.executable, "-c", RUN, *place, mode, *arguments]


def shell(
    cluster: ClusterAccess, room: Cluster, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(cluster, room, "plain", *arguments),
        capture_output=True,
        check=False,
        timeout=60,
        **options,
    )


class Syncing:
    """A session between a folder here and the store in the pod."""

    def __init__(self, room: Cluster, folder: Path) -> None:
        self.room = room
        self.folder = folder
        self.events: list[events.Event] = []
        self.transports: list[streams.ExecTransport] = []

    def connect(self) -> streams.ExecTransport:
        transport = streams.exec_transport(self.room, Options(store=STORE))
        self.transports.append(transport)
        return transport

    def session(self) -> SyncSession:
        return SyncSession(
            self.folder, connect=self.connect, on_event=self.events.append, times=FAST
        )


def tree_in_pod(cluster: ClusterAccess, room: Cluster) -> str:
    done = shell(cluster, room, "readlink", f"{STORE}/current", stdin=subprocess.DEVNULL)
    return done.stdout.decode().strip().rpartition("/")[2]


def test_a_folder_is_synced_into_the_pod_and_again_after_a_cut(
    cluster: ClusterAccess, room: Cluster, tmp_path: Path
) -> None:
    before = threading.active_count()
    (tmp_path / "big.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "dag.py").write_text("one")
    syncing = Syncing(room, tmp_path)
    session, stop = syncing.session(), threading.Event()
    thread = threading.Thread(target=session.run, args=(stop,))
    thread.start()
    try:
        first = session.request_scan(timeout=30)
        assert tree_in_pod(cluster, room) == first
        syncing.transports[0].close()
        (tmp_path / "dag.py").write_text("two")
        eventually(lambda: len(syncing.transports) == 2, "a second connection")
        eventually(lambda: not isinstance(syncing.events[-1], events.Disconnected), "it is used")
        second = session.request_scan(timeout=30)
        assert second != first
        assert tree_in_pod(cluster, room) == second
        read = shell(cluster, room, "cat", f"{STORE}/current/dag.py", stdin=subprocess.DEVNULL)
        assert read.stdout == b"two"
    finally:
        stop.set()
        thread.join()
    assert not any(transport.alive for transport in syncing.transports)
    eventually(lambda: threading.active_count() == before, "no thread is left")
    assert identify(canonical({}))  # the tree ids above are of the same function


@contextlib.contextmanager
def syncs(syncing: Syncing) -> Iterator[SyncSession]:
    """A session in a thread; nothing of it is left."""
    before = own_threads()
    session, stop = syncing.session(), threading.Event()
    thread = threading.Thread(target=session.run, args=(stop,))
    thread.start()
    try:
        yield session
    finally:
        stop.set()
        thread.join()
    assert not any(transport.alive for transport in syncing.transports)
    eventually(lambda: own_threads() <= before, "no thread is left")


def own_threads() -> set[threading.Thread]:
    """All but those of a relay."""
    return {thread for thread in threading.enumerate() if thread.name != RELAY}


def test_a_network_that_is_lost_in_silence_is_left_for_the_next(
    cluster: ClusterAccess, room: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PULSE", 0.1), ("PING_AFTER", 0.5), ("DEAD_AFTER", 2.0)):
        monkeypatch.setattr(protocol, name, seconds)
    folder = tmp_path / "dags"
    folder.mkdir()
    with relayed(cluster, tmp_path) as (relay, kubeconfig):
        there = Cluster.connect(
            context=cluster.context, namespace=room.namespace, kubeconfig=str(kubeconfig)
        ).within(3.0)  # A request goes by an old connection, too.
        syncing = Syncing(there, folder)
        (folder / "dag.py").write_text("one")
        with syncs(syncing) as session:
            first = session.request_scan(timeout=30)
            relay.lose()
            (folder / "dag.py").write_text("two")
            second = session.request_scan(timeout=60)
            assert first != second == tree_in_pod(cluster, room)
        lost = [event for event in syncing.events if isinstance(event, events.Disconnected)]
        assert "silent" in lost[0].reason


PREFIX = "/k8s/clusters/c-m-1"


def test_an_api_server_below_a_path_of_a_proxy(
    cluster: ClusterAccess, room: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    with proxied(cluster, tmp_path, prefix=PREFIX) as (proxy, kubeconfig):
        there = Cluster.connect(
            context=cluster.context, namespace=room.namespace, kubeconfig=str(kubeconfig)
        )
        pod = ready_pod(there, DAG_PROCESSOR)

        version = there.listing("v1", "ConfigMap")[1]
        with contextlib.closing(
            there.watch("v1", "ConfigMap", version=version, selector="", seconds=60)
        ) as changes:
            there.apply(settings("seen", a="b"))
            seen = json.loads(next(iter(changes)))
        assert (seen["type"], seen["object"]["metadata"]["name"]) == ("ADDED", "seen")
        assert there.delete(seen["object"] | {"apiVersion": "v1", "kind": "ConfigMap"})

        syncing = Syncing(there, folder)
        (folder / "dag.py").write_text("by the proxy")
        with syncs(syncing) as session:
            assert session.request_scan(timeout=30) == tree_in_pod(cluster, room)
        execs = [path for path in proxy.passed if f"/pods/{pod['metadata']['name']}/exec?" in path]
        assert len(execs) == len(syncing.transports) == 1


def test_the_agent_ends_with_its_connection(cluster: ClusterAccess, room: Cluster) -> None:
    transport = streams.exec_transport(room, Options(store="/tmp/another"))

    def agents() -> int:
        done = shell(cluster, room, "python3", "-c", LOOK, "/tmp/another", stdin=subprocess.DEVNULL)
        return int(done.stdout)

    assert transport.alive
    eventually(lambda: agents() >= 1, "the agent runs")
    transport.close()
    eventually(lambda: agents() == 0, "the agent has ended")


def test_what_the_other_side_says_on_its_error_stream_is_kept(room: Cluster) -> None:
    transport = streams.exec_transport(room, Options(store="/proc/cannot/be", patience=1))
    while transport.read(4096):
        pass
    assert not transport.alive
    assert transport.diagnosis()
    with pytest.raises(BrokenPipeError):
        transport.write(b"more")
    transport.close()


def test_a_program_that_is_not_there_is_a_clear_failure(room: Cluster) -> None:
    transport = streams.exec_in(room, ready_pod(room, DAG_PROCESSOR), ["/no/such/python"])
    said = b"".join(iter(lambda: transport.read(4096), b""))
    assert "/no/such/python" in said.decode() + transport.diagnosis()
    assert "broke" not in transport.diagnosis()
    transport.close()


def test_without_a_ready_pod_it_says_so(room: Cluster) -> None:
    with pytest.raises(EnvironmentFailure, match="no pod of scheduler is ready"):
        ready_pod(room, "scheduler")


# --- run -----------------------------------------------------------------------------------------


def test_a_command_gives_its_output_its_errors_and_its_exit_code(
    cluster: ClusterAccess, room: Cluster
) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = shell(cluster, room, "sh", "-c", script, stdin=subprocess.DEVNULL)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_long_output_arrives_whole(cluster: ClusterAccess, room: Cluster) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 20000)"
    done = shell(cluster, room, "python3", "-c", script, stdin=subprocess.DEVNULL)
    assert done.stdout == bytes(range(256)) * 20000


def test_a_command_reads_our_input_to_its_end(cluster: ClusterAccess, room: Cluster) -> None:
    data = bytes(range(256)) * 4000
    assert shell(cluster, room, "cat", input=data).stdout == data
    assert shell(cluster, room, "sh", "-c", "cat; exit 5", input=b"").returncode == 5


def test_a_command_that_reads_nothing_ends_whatever_we_send(
    cluster: ClusterAccess, room: Cluster
) -> None:
    done = shell(cluster, room, "sh", "-c", "exit 4", input=b"x" * 3_000_000)
    assert done.returncode == 4


def test_a_terminal_is_one_in_the_pod_too(cluster: ClusterAccess, room: Cluster) -> None:
    pid, terminal = os.forkpty()
    if pid == 0:
        arguments = command(cluster, room, "tty", "sh", "-c", ASK)
        os.execv(arguments[0], arguments)  # noqa: S606 - a program of ours, no shell
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        read_until(terminal, b"33 111")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
        os.write(terminal, b"typed\r")
        read_until(terminal, b"got typed in 44 122")
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9


def read_until(terminal: int, wanted: bytes) -> None:
    said = b""
    while wanted not in said:
        readable, _, _ = select.select([terminal], [], [], 60)
        assert readable, said
        said += os.read(terminal, 1024)


def test_a_missing_program_is_told(cluster: ClusterAccess, room: Cluster) -> None:
    done = shell(cluster, room, "no-such-program", stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert b"no-such-program" in done.stdout + done.stderr


def test_errors_of_the_room_are_ours(room: Cluster) -> None:
    with pytest.raises(WindsockError):
        run(room, "postgres", ["true"], interactive=False)
