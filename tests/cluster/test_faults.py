"""Faults in the middle of batches, on a real cluster: what is current is always whole.

The agent runs in the pod of a dag-processor, over a real exec. A second pod mounts the stores
read-only, as a worker does, and looks at each snapshot the moment it becomes current: nothing of
what a fault ends is needed for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cluster.room import SLEEP, deployment, eventually, mount_from_node, namespace, silent
from tests.cluster.test_sync import PodRig
from tests.contract.sync.rig import Rig, tree_id_of, wait_until
from windsock.cluster import rollout
from windsock.cluster.apply import apply
from windsock.cluster.channels import STDOUT
from windsock.cluster.streams import open_exec, ready_pod
from windsock.errors import WindsockError
from windsock.sync import entries, events, protocol
from windsock.sync.session import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.client import Cluster
    from windsock.sync.transport import Transport

pytestmark = pytest.mark.cluster

CLIENT = "anna@laptop#1"
PATIENT = Pace(quiet=0.005, longest=0.1, retry_first=0.05, retry_longest=0.5)

READER = """
import json, os, stat, sys, time
sys.path.insert(0, "/nowhere")
exec(compile(open(sys.argv[1] + "/entries.py").read(), "entries", "exec"))
root = sys.argv[1]
def look(folder):
    rows = {}
    for place, folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                data = file.read()
            state = content_digest()
            state.update(data)
            mode = os.stat(path).st_mode & 0o777
            rows[os.path.relpath(path, folder)] = ("file", mode, len(data), state.hexdigest())
    return identify(canonical(rows))
seen = {}
with open(root + "/seen.txt", "a", buffering=1) as out:
    while True:
        for item in os.scandir(root):
            store = item.path + "/store"
            try:
                name = os.path.basename(os.readlink(store + "/current"))
            except OSError:
                continue
            times = seen.get((store, name), 0)
            if times < 2:
                seen[store, name] = times + 1
                try:
                    found = look(store + "/snapshots/" + name)
                except OSError as error:
                    found = repr(error)
                out.write(json.dumps([store, name, found]) + chr(10))
        time.sleep(0.001)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that both pods see, with a small disk in it."""
    folder = Path(tempfile.mkdtemp(prefix="windsock-faults-")).resolve()
    (folder / "entries.py").write_text(Path(str(entries.__file__)).read_text(encoding="utf-8"))
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
            deployment("dag-processor", SLEEP),
            deployment("worker", READER, args=[str(shared)]),
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

    def pid(self) -> int:
        """Of the agent, in its pod."""
        return self.of(events.Connected)[-1].pid

    def in_pod(self, program: str) -> None:
        """Run a Python program beside the agent."""
        pod = ready_pod(self.room, "dag-processor")
        command = ["python3", "-I", "-S", "-c", program]
        with contextlib.closing(
            open_exec(self.room, pod, command, stdin=False, tty=False)
        ) as channels:
            while channels.read(STDOUT, 1024):
                pass

    def seen(self) -> list[list[str]]:
        """What the worker found: a store, the snapshot that was current, and its content's id."""
        lines = (self.folder.parent / "seen.txt").read_text(encoding="utf-8").splitlines()
        rows: list[list[str]] = [json.loads(line) for line in lines]
        return [row for row in rows if row[0] == str(self.store)]

    def assert_never_half(self) -> None:
        """The worker has seen the last snapshot, and no other than whole ones."""
        wait_until(
            lambda: any(row[1] == tree_id_of(self.root) for row in self.seen()),
            "the worker sees the last snapshot",
        )
        assert [row for row in self.seen() if row[1] != row[2]] == []


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
        self._inner.write(self._rig.sending(self._inner, data))


@pytest.fixture
def rig(room: Cluster, shared: Path) -> Iterator[FaultyRig]:
    with checked(FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)) as rig:
        yield rig


@contextlib.contextmanager
def checked(rig: FaultyRig) -> Iterator[FaultyRig]:
    """In the end the store is the folder, was never half, and nothing is left running."""
    before = set(threading.enumerate())
    yield rig
    rig.assert_equal()
    rig.assert_never_half()
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


def cut(transport: Transport) -> None:
    """As a network does."""
    transport.close()


def test_the_worker_notices_half_a_snapshot(room: Cluster, shared: Path) -> None:
    rig = FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)
    rig.write("a.py", "whole")
    snapshot = rig.store / "snapshots" / tree_id_of(rig.root)
    snapshot.mkdir(parents=True)
    (snapshot / "a.py").write_text("half")
    rig.current.symlink_to(snapshot.relative_to(rig.store))
    wait_until(rig.seen, "the worker sees it")
    with pytest.raises(AssertionError):
        rig.assert_never_half()


# --- one fault each -------------------------------------------------------------------------------


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kill=st.booleans(),
    moments=st.lists(st.integers(0, 300_000), min_size=1, max_size=3),
)
def test_a_killed_agent_or_a_cut_stream_at_any_byte(
    room: Cluster, shared: Path, kill: bool, moments: list[int]
) -> None:
    with checked(FaultyRig(Path(tempfile.mkdtemp(dir=shared)), room)) as rig:
        fill(rig, "first")

        def die(_: Transport) -> None:
            rig.in_pod(f"import os; os.kill({rig.pid()}, 9)")

        with rig.running(pace=PATIENT, client=CLIENT) as session:
            session.request_scan()
            for number, moment in enumerate(moments):
                rig.plan(die if kill else cut, after=moment)
                fill(rig, f"version {number}")
                session.request_scan(timeout=60)
                rig.assert_equal()


@pytest.mark.parametrize("what", ["container", "pod"])
def test_the_container_or_the_pod_ends_in_the_middle_of_a_batch(rig: FaultyRig, what: str) -> None:
    def end(_: Transport) -> None:
        if what == "container":
            rig.in_pod("import os; os.kill(1, 15)")
        else:
            rig.room.delete(ready_pod(rig.room, "dag-processor"))

    fill(rig, "first")
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(end, after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=120)
        # A pod may live long enough for the batch; the next one finds the store as it was left.
        eventually(lambda: rig.of(events.Disconnected), "the stream ends with its pod")
        fill(rig, "third")
        session.request_scan(timeout=120)


def test_a_frozen_agent_is_left_and_does_no_harm_when_it_goes_on(
    rig: FaultyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An agent that takes the store from a frozen one waits five seconds for its end.
    for name, seconds in (("PULSE", 0.1), ("PING_AFTER", 1.0), ("DEAD_AFTER", 7.0)):
        monkeypatch.setattr(protocol, name, seconds)
    frozen: list[int] = []

    def freeze(_: Transport) -> None:
        frozen.append(rig.pid())
        rig.in_pod(f"import os, signal; os.kill({frozen[0]}, signal.SIGSTOP)")

    fill(rig, "first")
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(freeze, after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=60)
        assert any("silent" in event.reason for event in rig.of(events.Disconnected))
        # It has half a batch, and reads the rest now.
        rig.in_pod(
            "import os, signal, time\n"
            f"os.kill({frozen[0]}, signal.SIGCONT)\n"
            f"while os.path.exists('/proc/{frozen[0]}/exe'): time.sleep(0.01)"
        )
        rig.assert_equal()
        fill(rig, "third")
        session.request_scan()


CLIENT_PROGRAM = """
import pathlib, sys, threading
from windsock.cluster.client import Cluster
from windsock.cluster.streams import exec_transport
from windsock.sync.agent import Options
from windsock.sync.session import Session
context, namespace, kubeconfig, root, store, client = sys.argv[1:]
cluster = Cluster.connect(context=context, namespace=namespace, kubeconfig=kubeconfig)
Session(
    pathlib.Path(root),
    connect=lambda: exec_transport(cluster, Options(store=store)),
    on_event=print,
    client=client,
).run(threading.Event())
"""


def test_a_client_killed_in_the_middle_of_a_batch_is_followed_by_the_next(
    rig: FaultyRig, cluster: ClusterAccess
) -> None:
    fill(rig, "first", files=3)
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()
    rig.write("large.bin", os.urandom(30_000_000))
    command = [sys.executable, "-c", CLIENT_PROGRAM, cluster.context, rig.room.namespace]
    command += [str(cluster.kubeconfig), str(rig.root), str(rig.store), CLIENT]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    try:
        arriving = rig.store / "incoming"
        wait_until(
            lambda: any(len(path.name) == 40 for path in arriving.glob("*/*")),
            "half of the file has arrived",
        )
    finally:
        client.kill()
        client.wait()
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()


def test_a_full_volume_refuses_a_batch_and_takes_the_next(room: Cluster, shared: Path) -> None:
    if not (shared / "disk").exists():
        pytest.skip("this machine does not let us mount a small disk")
    with checked(FaultyRig(shared / "disk", room)) as rig:
        rig.root = Path(tempfile.mkdtemp(dir=shared)) / "dags"  # there is room for the folder
        rig.root.mkdir()
        fill(rig, "first", files=3)
        with rig.running(pace=PATIENT, client=CLIENT) as session:
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
    fill(rig, "first", files=5000, size=300)
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(cut, after=200_000)
        fill(rig, "second", files=5000, size=300)
        wait_until(lambda: rig.happened, "the first cut")
        rig.plan(cut, after=900_000)
        session.request_scan(timeout=60)
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
    with rig.running(pace=PATIENT, client=CLIENT) as session:
        session.request_scan()
        rig.plan(lambda _: restart(), after=100_000)
        fill(rig, "second")
        session.request_scan(timeout=60)
    assert rig.of(events.Disconnected), "the stream went on"
    eventually(lambda: test_bed.state().ready, "the test bed is as it was")
