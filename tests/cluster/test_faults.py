"""Faults in the middle of batches, on a real cluster: what is current is always whole.

The agent runs in the pod of a dag-processor, over a real exec. A second pod mounts the stores,
as a worker does, and reads what is current all the time (see reader.py): nothing of what a fault
ends is needed for that. A fault is over before another byte of its batch is sent.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cluster import node, reader
from tests.cluster.room import SLEEP, deployment, eventually, mount_from_node, namespace, silent
from tests.cluster.test_sync import PodRig
from tests.contract.sync.rig import SESSION, Rig, tree_id_of, wait_until
from windsock import events
from windsock.cluster.access.streams import DAG_PROCESSOR
from windsock.cluster.api.workloads import ready_pod
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout
from windsock.errors import WindsockError
from windsock.sync import protocol
from windsock.sync.times import SyncTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster
    from windsock.sync.transport import Transport

pytestmark = pytest.mark.cluster

CLIENT = "anna@laptop#1"
PATIENT = SyncTimes(quiet=0.005, longest=0.1, retry_first=0.05, retry_longest=0.5)

SEEN = "seen.txt"
READER_RESTS = 2.0
"""Times as long as it reads."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that both pods see, with a small disk in it."""
    folder = Path(tempfile.mkdtemp(prefix="windsock-faults-")).resolve()
    (folder / SEEN).touch()
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    if not mounted:
        disk.rmdir()
    yield folder
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - from PATH
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess, shared: Path) -> Iterator[Cluster]:
    if cluster.kind != "debian":
        pytest.skip("the node must be this machine")
    with namespace(cluster) as room:
        items = [
            deployment(DAG_PROCESSOR, SLEEP),
            deployment(
                "worker",
                reader.program(idle=READER_RESTS),
                args=[str(shared / SEEN), str(shared)],
            ),
        ]
        for item in items:
            mount_from_node(item, shared)
        apply(room, items, progress=silent)
        rollout.wait(room, items, progress=silent, timeout=120)
        yield room


class FaultyRig(PodRig):
    """A rig in whose batches something happens.

    Args:
        folder: Empty; both pods see it.
        room: The namespace.
    """

    def __init__(self, folder: Path, room: Cluster) -> None:
        super().__init__(folder, room)
        self.room = room
        self.folder = folder
        self.wrap = self._wrap
        self._moment = 0
        self._fault: Callable[[Transport], None] | None = None

    def plan(self, fault: Callable[[Transport], None], *, after: int) -> None:
        """Let something happen once so many further bytes have been sent."""
        self._moment, self._fault = after, fault

    @property
    def happened(self) -> bool:
        return self._fault is None

    def _wrap(self, transport: Transport) -> Transport:
        return Faulty(transport, self)

    def sending(self, transport: Transport, data: bytes) -> bytes:
        """Send what comes before the fault, let it happen, and return what is left."""
        if self._fault is None or len(data) <= self._moment:
            self._moment -= len(data)
            return data
        transport.write(data[: self._moment])
        fault, self._fault = self._fault, None
        fault(transport)
        return data[self._moment :]

    def pod(self) -> node.Object:
        """The one that the agent runs in."""
        return ready_pod(self.room, DAG_PROCESSOR)

    def agent(self) -> int:
        """The agent's process, as this machine numbers it."""
        number = self.of(events.Connected)[-1].pid
        [found] = [
            process for process, inner in node.agents_in(self.pod()).items() if inner == number
        ]
        return found

    def seen(self) -> list[list[str]]:
        """What the reader told of this store."""
        rows = reader.seen_in((self.folder.parent / SEEN).read_text(encoding="utf-8"))
        return [row for row in rows if row[0] == str(self.store)]

    def assert_never_half(self) -> None:
        """The reader has seen the last snapshot, and always a whole one, from the first one on."""
        wait_until(
            lambda: any(row[1] == tree_id_of(self.root) for row in self.seen()),
            "the reader sees the last snapshot",
        )
        assert reader.wrong_in(self.seen()) == []


class Faulty:
    """A transport in whose middle something happens."""

    def __init__(self, inner: Transport, rig: FaultyRig) -> None:
        self._inner = inner
        self._rig = rig
        self.read = inner.read
        self.close = inner.close
        self.diagnosis = inner.diagnosis

    @property
    def alive(self) -> bool:
        return self._inner.alive

    def write(self, data: bytes) -> None:
        if threading.current_thread().name == SESSION:  # and not a ping in between
            data = self._rig.sending(self._inner, data)
        self._inner.write(data)


@pytest.fixture
def rig(room: Cluster, shared: Path) -> Iterator[FaultyRig]:
    with checked(FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)) as rig:
        yield rig


@contextlib.contextmanager
def checked(rig: FaultyRig) -> Iterator[FaultyRig]:
    """In the end the store is the folder, was never half, and nothing is left running."""
    before = set(threading.enumerate())
    try:
        yield rig
        rig.assert_equal()
        rig.assert_never_half()
    finally:
        (rig.folder / reader.DONE).touch()
    assert rig.happened, "the fault did not happen"
    assert not any(transport.alive for transport in rig.transports)
    wait_until(
        lambda: not [t for t in threading.enumerate() if t not in before and t.is_alive()],
        "no thread is left",
    )


def fill(rig: Rig, version: str, *, files: int = 40, size: int = 10_000) -> None:
    """Replace a folder of files at one moment, as a switch of branches does."""
    fresh = rig.root.parent / "fresh-tree"
    for number in range(files):
        path = fresh / f"d{number % 7}" / f"f{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {version} {number}\n".ljust(size, "x"))
    if (rig.root / "tree").exists():
        (rig.root / "tree").rename(rig.root.parent / "old-tree")
        shutil.rmtree(rig.root.parent / "old-tree")
    fresh.rename(rig.root / "tree")


# --- the reader -----------------------------------------------------------------------------------


def lacks_a_byte(rig: FaultyRig, snapshot: Path) -> None:
    (snapshot / "a.py").write_text("hal")
    become_current(rig, snapshot)


def loses_a_file_later(rig: FaultyRig, snapshot: Path) -> None:
    become_current(rig, snapshot)
    wait_until(rig.seen, "the reader has read it")
    (snapshot / "a.py").unlink()


def is_removed_later(rig: FaultyRig, snapshot: Path) -> None:
    become_current(rig, snapshot)
    wait_until(rig.seen, "the reader has read it")
    shutil.rmtree(snapshot)


def is_current_no_more(rig: FaultyRig, snapshot: Path) -> None:
    become_current(rig, snapshot)
    wait_until(rig.seen, "the reader has read it")
    rig.current.unlink()
    wait_until(lambda: len(rig.seen()) > 1, "the reader tells that nothing is current")
    become_current(rig, snapshot)  # What comes back was gone all the same.


def become_current(rig: FaultyRig, snapshot: Path) -> None:
    rig.current.symlink_to(snapshot.relative_to(rig.store))


@pytest.mark.parametrize(
    "breaks", [lacks_a_byte, loses_a_file_later, is_removed_later, is_current_no_more]
)
def test_the_reader_tells_of_a_snapshot_that(
    room: Cluster, shared: Path, breaks: Callable[[FaultyRig, Path], None]
) -> None:
    rig = FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)
    rig.write("a.py", "half")
    snapshot = rig.store / "snapshots" / tree_id_of(rig.root)
    snapshot.mkdir(parents=True)
    (snapshot / "a.py").write_text("half")
    breaks(rig, snapshot)
    wait_until(lambda: reader.wrong_in(rig.seen()), "the reader tells")
    with pytest.raises(AssertionError):
        rig.assert_never_half()
    (rig.folder / reader.DONE).touch()


# --- faults that a session meets ------------------------------------------------------------------


def cut(_: FaultyRig, transport: Transport) -> None:
    """As a network does."""
    transport.close()


def kill(rig: FaultyRig, transport: Transport) -> None:
    os.kill(rig.agent(), signal.SIGKILL)
    ends(transport)


def freeze_until_it_is_left(rig: FaultyRig, transport: Transport) -> None:
    """It goes on, with half a batch and the end of its input, while another one takes its place."""
    agent = rig.agent()
    os.kill(agent, signal.SIGSTOP)
    try:
        ends(transport)
    finally:
        os.kill(agent, signal.SIGCONT)


def end_container(rig: FaultyRig, transport: Transport) -> None:
    node.kill_container(rig.pod())
    ends(transport)


def delete_pod(rig: FaultyRig, transport: Transport) -> None:
    name = rig.pod()["metadata"]["name"]
    path = rig.room.path("v1", "Pod", name)
    at_once = {"gracePeriodSeconds": 0}
    rig.room.request("DELETE", path, body=at_once, doing=f"delete pod {name}")
    ends(transport)


def ends(transport: Transport) -> None:
    """Let nothing more of the batch be sent until the stream has ended."""
    wait_until(lambda: not transport.alive, "the stream ends")


def kill_the_client(rig: FaultyRig, cluster: ClusterAccess, moment: int) -> None:
    """Let another process sync, until it dies (-9) once it has sent so many bytes."""
    command = [sys.executable, "-c", CLIENT_PROGRAM, cluster.context, rig.room.namespace]
    command += [str(cluster.kubeconfig), str(rig.root), str(rig.store), CLIENT, str(moment)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


CLIENT_PROGRAM = """
import os, pathlib, signal, sys, threading
from windsock.cluster.api.client import Cluster
from windsock.cluster.access.streams import exec_transport
from windsock.store.agent import Options
from windsock.sync.session import SyncSession
context, namespace, kubeconfig, root, store, client, moment = sys.argv[1:]
cluster = Cluster.connect(context=context, namespace=namespace, kubeconfig=kubeconfig)
left = int(moment)

class Mortal:
    def __init__(self, inner):
        self.inner = inner
        self.read, self.close, self.diagnosis = inner.read, inner.close, inner.diagnosis
    @property
    def alive(self):
        return self.inner.alive
    def write(self, data):
        global left
        self.inner.write(data[:left])
        left -= len(data)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

SyncSession(
    pathlib.Path(root),
    connect=lambda: Mortal(exec_transport(cluster, Options(store=store))),
    on_event=print,
    client=client,
).run(threading.Event())
"""

FAULTS = {
    "the stream is cut": cut,
    "the agent is killed": kill,
    "the agent freezes": freeze_until_it_is_left,
}
CLIENT_DIES = "the client is killed"
STEPS = st.tuples(
    st.sampled_from([*FAULTS, CLIENT_DIES]),
    st.integers(0, 380_000),  # a batch of `fill` is a little larger
)


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example([("the agent is killed", 0), ("the agent freezes", 0), ("the client is killed", 0)])
@given(steps=st.lists(STEPS, min_size=2, max_size=4))
def test_any_sequence_of_faults_at_any_byte(
    room: Cluster, shared: Path, cluster: ClusterAccess, steps: list[tuple[str, int]]
) -> None:
    with (
        checked(FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)) as rig,
        quickly_given_up(after=2.0),
    ):
        fill(rig, "first")
        with rig.running(times=PATIENT, client=CLIENT) as session:
            session.request_scan()
        for number, (fault, moment) in enumerate(steps):
            if fault == CLIENT_DIES:
                fill(rig, f"version {number}")
                kill_the_client(rig, cluster, moment)
            with rig.running(times=PATIENT, client=CLIENT) as session:
                session.request_scan(timeout=60)
                if fault != CLIENT_DIES:
                    rig.plan(functools.partial(FAULTS[fault], rig), after=moment)
                    fill(rig, f"version {number}")
                    session.request_scan(timeout=60)
            rig.assert_equal()
            assert rig.happened


@contextlib.contextmanager
def quickly_given_up(*, after: float) -> Iterator[None]:
    """An agent that says nothing for so many seconds counts as dead."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("PULSE", 0.1), ("PING_AFTER", 0.5), ("DEAD_AFTER", after)):
            patch.setattr(protocol, name, seconds)
        yield


@pytest.mark.parametrize("end", [end_container, delete_pod])
def test_what_the_agent_runs_in_ends_in_the_middle_of_a_batch(
    rig: FaultyRig, end: Callable[[FaultyRig, Transport], None]
) -> None:
    fill(rig, "first")
    with rig.running(times=PATIENT, client=CLIENT) as session:
        before = session.request_scan()
        found: list[str] = []

        def fault(transport: Transport) -> None:
            end(rig, transport)
            found.append(rig.current.readlink().name)

        rig.plan(fault, after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=120)
        assert found == [before], "the batch was applied before the fault"
        fill(rig, "third")
        session.request_scan(timeout=120)


def test_a_frozen_agent_is_left_and_does_no_harm_when_it_goes_on(rig: FaultyRig) -> None:
    frozen: list[int] = []

    def freeze(_: Transport) -> None:
        frozen.append(rig.agent())
        os.kill(frozen[0], signal.SIGSTOP)

    fill(rig, "first")
    # An agent that takes the store from a frozen one waits five seconds for its end.
    with quickly_given_up(after=7.0), rig.running(times=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(freeze, after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=60)
        assert any("silent" in event.reason for event in rig.of(events.Disconnected))
        # It has half a batch, and reads the rest now.
        os.kill(frozen[0], signal.SIGCONT)
        wait_until(lambda: not node.runs(frozen[0]), "it has ended")
        rig.assert_equal()
        fill(rig, "third")
        session.request_scan()


def test_a_client_killed_in_the_middle_of_a_file_is_followed_by_the_next(
    rig: FaultyRig, cluster: ClusterAccess
) -> None:
    fill(rig, "first", files=3)
    with rig.running(times=PATIENT, client=CLIENT) as session:
        before = session.request_scan()
    rig.write("large.bin", os.urandom(30_000_000))
    kill_the_client(rig, cluster, 15_000_000)
    assert rig.current.readlink().name == before
    with rig.running(times=PATIENT, client=CLIENT) as session:
        session.request_scan()


def test_a_full_volume_refuses_a_batch_and_takes_the_next(room: Cluster, shared: Path) -> None:
    if not (shared / "disk").exists():
        pytest.skip("this machine does not let us mount a small disk")
    with checked(FaultyRig(shared / "disk", room)) as rig:
        rig.root = Path(tempfile.mkdtemp(dir=shared)) / "dags"  # there is room for the folder
        rig.root.mkdir()
        fill(rig, "first", files=3)
        with rig.running(times=PATIENT, client=CLIENT) as session:
            first = session.request_scan()
            large = rig.write("large.bin", os.urandom(6_000_000))
            assert rig.wait_for(events.Refused).code == "no_space"
            with pytest.raises(WindsockError, match="No space left"):
                session.request_scan()
            assert rig.current.readlink().name == first
            large.unlink()
            fill(rig, "second", files=3)
            session.request_scan()
            rig.assert_equal()


def test_a_switch_of_five_thousand_files_that_is_cut_twice(rig: FaultyRig) -> None:
    def first_cut(transport: Transport) -> None:
        cut(rig, transport)
        rig.plan(functools.partial(cut, rig), after=900_000)

    fill(rig, "first", files=5000, size=300)
    with rig.running(times=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(first_cut, after=200_000)
        fill(rig, "second", files=5000, size=300)
        session.request_scan(timeout=60)
    assert rig.happened, "the second cut"
    snapshots = {row[1] for row in rig.seen()}
    assert len(snapshots) <= 3  # one switch; the first time the folder was empty for a moment


@pytest.mark.parametrize("which", ["API server", "kubelet"])
def test_a_part_of_kubernetes_ends_in_the_middle_of_a_batch_and_comes_back(
    rig: FaultyRig, cluster: ClusterAccess, which: str
) -> None:
    if cluster.kind != "debian":
        pytest.skip(f"nobody else's {which} is restarted")
    from tests.cluster.debian import cluster as test_bed  # noqa: PLC0415 - only there

    restart = test_bed.restart_api_server if which == "API server" else test_bed.restart_kubelet
    fill(rig, "first")
    with rig.running(times=PATIENT, client=CLIENT) as session:
        session.request_scan()

        def end(transport: Transport) -> None:
            restart()
            ends(transport)

        rig.plan(end, after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=60)
    eventually(lambda: test_bed.state().ready, "the test bed is as it was")
