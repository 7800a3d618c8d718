"""What breaks during a run, on a cluster where Airflow runs: nothing is lost, mixed, or half.

Cases of test_environment.py, which has the environment that they all share. One run is held open
while one thing after the other breaks; in the end it must have run what it started with.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import node, reader
from tests.cluster.another_environment import HELD, STORE
from tests.cluster.syncing import PROCESSOR, assert_in_step_there
from tests.e2e.folder import Folder, dag_source
from tests.e2e.machine import component_pid
from tests.e2e.project import eventually
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.lease import Lease
from windsock.errors import WindsockError
from windsock.store import entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.cluster.deployed import Kubectl
    from tests.e2e.project import Project
    from windsock.airflow.records import DagRun

HELPER = "of_the_run.py"
SAYING = ("before", "after", "last")
"""The tasks of the run that is held, without the one that waits."""
RETURN = "from of_the_run import VERSION\nreturn VERSION"
LARGE = 60_000_000
"""Bytes: a while on its way."""
MANY = 5000
SWITCHES = 5
"""Snapshots that may be current while many files are replaced: before, after, three meanwhile."""


# --- a reader in a pod ----------------------------------------------------------------------------

READING_POD = "deploy/airflow-scheduler"
"""Mounts the store read-only, and no fault here touches it."""
SEEN = "/tmp/seen"
START_READER = f"""
import subprocess, sys
open({SEEN!r}, "w").close()
running = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1], {SEEN!r}, {STORE!r}], start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
print(running.pid)
"""
STOP_READER = f"""
import os, sys
os.kill(int(sys.argv[1]), 9)
print(open({SEEN!r}).read(), end="")
"""


@contextlib.contextmanager
def read_all_the_time(kubectl: Kubectl) -> Iterator[list[str]]:
    """A reader looks at what is current; the snapshots that were, all of them whole, afterwards."""

    def python(source: str, argument: str) -> str:
        return kubectl.run("exec", READING_POD, "--", "python3", "-c", source, argument)

    seen: list[str] = []
    process = python(START_READER, reader.program(idle=4.0)).strip()
    try:
        yield seen
    finally:
        rows = reader.seen_in(python(STOP_READER, process))
    assert reader.wrong_in(rows) == []
    seen += [row[1] for row in rows]


# --- half a batch ---------------------------------------------------------------------------------

LENGTH = len(entries.content_digest().hexdigest())
"""Of the name that content has while it waits for its batch."""


@dataclass(frozen=True)
class Half:
    """A batch of which the agent has a part; it is frozen until the fault has come.

    Attributes:
        project: Whose folder it is.
        kubectl: Of its namespace.
        store: The store, on this machine.
        pod: In which the agent runs.
        agent: Its process.
    """

    project: Project
    kubectl: Kubectl
    store: Path
    pod: node.Object
    agent: int

    def thaw(self) -> None:
        """Let the agent go on, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.agent, signal.SIGCONT)

    def ended(self) -> None:
        """Wait until the agent has."""
        eventually(lambda: not node.runs(self.agent), "the agent has ended")


@contextlib.contextmanager
def half_sent(
    project: Project,
    kubectl: Kubectl,
    save: Callable[[], None],
    *,
    partly: Callable[[list[int]], bool],
) -> Iterator[Half]:
    """Save, and stop the agent once a part of it has arrived.

    Args:
        project: Whose folder it is.
        kubectl: Of its namespace.
        save: Changes the folder.
        partly: Whether files of these sizes are what is meant by a part.
    """
    store = store_on_node(kubectl)
    [pod] = [
        pod
        for pod in kubectl.items("pods", PROCESSOR)
        if not pod["metadata"].get("deletionTimestamp")
    ]
    [agent] = node.agents_in(pod)
    kept = {path for path, _ in _content(store)}  # of batches before

    def arrived() -> dict[str, int]:
        return {path.name: size for path, size in _content(store) if path not in kept}

    save()
    eventually(lambda: partly([*arrived().values()]), "a part has arrived", every=0.001)
    os.kill(agent, signal.SIGSTOP)
    half = Half(project, kubectl, store, pod, agent)
    try:
        assert arrived().keys().isdisjoint(_digests_of_current(store)), "it counts already"
        assert partly([*arrived().values()]), "all of it has arrived"
        yield half
    finally:
        half.thaw()


def _digests_of_current(store: Path) -> set[str]:
    """Those of all files in the snapshot that is current."""
    tree = (store / "current").readlink().name
    listed = json.loads((store / "manifests" / f"{tree}.json").read_text())["entries"]
    return {row[3] for row in listed.values()}


def _content(store: Path) -> list[tuple[Path, int]]:
    """The files that have begun to arrive, with their sizes."""
    with contextlib.suppress(FileNotFoundError):
        files = [path for path in (store / "incoming").glob("*/*") if len(path.name) == LENGTH]
        return [(path, path.stat().st_size) for path in files]
    return []  # It is all over at this moment.


def part_of_a_large_file(sizes: list[int]) -> bool:
    """Something has arrived, but not the large file."""
    return 0 < max(sizes, default=0) < LARGE


def some_of_many_files(sizes: list[int]) -> bool:
    """Many, but not all."""
    return MANY // 5 < len(sizes) < MANY


def store_on_node(kubectl: Kubectl) -> Path:
    """Where the node keeps what the pods have mounted as the store."""
    [claim] = [
        item
        for item in kubectl.items("persistentvolumeclaims")
        if item["metadata"]["name"] == "dags"
    ]
    volume = ("get", "pv", claim["spec"]["volumeName"], "-o", "jsonpath={.spec.hostPath.path}")
    return Path(kubectl.run(*volume))


# --- faults: each is over when it returns ---------------------------------------------------------


def the_agent_is_killed(half: Half) -> None:
    os.kill(half.agent, signal.SIGKILL)


def its_container_is_killed(half: Half) -> None:
    node.kill_container(half.pod)
    half.ended()


def its_pod_is_deleted_without_grace(half: Half) -> None:
    at_once = ("--grace-period=0", "--force", "--wait=false")
    half.kubectl.run("delete", "pod", *at_once, half.pod["metadata"]["name"])
    half.ended()


def the_agent_freezes_until_another_has_taken_its_place(half: Half) -> None:
    half.project.control.barrier(timeout=120)
    assert node.is_frozen(half.agent)
    half.thaw()
    half.ended()


def the_sync_process_is_killed(half: Half) -> None:
    before = component_pid(half.project, "sync")
    os.kill(before, signal.SIGKILL)
    half.thaw()
    half.ended()
    eventually(lambda: _answers(half.project), "its supervisor has started it again")
    assert component_pid(half.project, "sync") != before


def the_laptop_sleeps_longer_than_the_agent_and_the_lease_wait(half: Half) -> None:
    process = component_pid(half.project, "sync")
    ours = holder_of(half.kubectl)
    os.kill(process, signal.SIGSTOP)
    try:
        half.thaw()
        half.ended()  # It has heard nothing for thirty seconds.
        slept_since = renewed(half.kubectl)
    finally:
        os.kill(process, signal.SIGCONT)
    eventually(lambda: renewed(half.kubectl) > slept_since, "the lease is renewed")
    assert holder_of(half.kubectl) == ours


def the_kubelet_is_killed_and_comes_back(_: Half) -> None:
    from tests.cluster.debian import cluster as test_bed  # noqa: PLC0415 - only there

    test_bed.restart_kubelet()


def the_api_server_is_killed_and_comes_back(_: Half) -> None:
    from tests.cluster.debian import cluster as test_bed  # noqa: PLC0415 - only there

    test_bed.restart_api_server()


def the_store_cannot_be_written_for_a_while(half: Half) -> None:
    closed = [half.store / name for name in ("incoming", "snapshots")]
    modes = [folder.stat().st_mode for folder in closed]
    for folder in closed:
        folder.chmod(0o555)
    try:
        half.thaw()
        with pytest.raises(WindsockError, match="cannot be written"):
            half.project.control.barrier(timeout=60)
    finally:
        for folder, mode in zip(closed, modes, strict=True):
            folder.chmod(mode)


def _answers(project: Project) -> bool:
    try:
        project.control.status()
    except WindsockError:
        return False
    return True


def _lease(kubectl: Kubectl) -> dict[str, Any]:
    [lease] = kubectl.items("leases.coordination.k8s.io")
    spec: dict[str, Any] = lease["spec"]
    return spec


def holder_of(kubectl: Kubectl) -> str:
    """Who syncs, as the lease says."""
    return str(_lease(kubectl)["holderIdentity"])


def renewed(kubectl: Kubectl) -> datetime:
    """When the lease was renewed."""
    return datetime.fromisoformat(_lease(kubectl)["renewTime"])


# --- cases ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held(cluster: ClusterAccess, deployed: Project) -> Iterator[DagRun]:
    """A run whose first task has ended, and whose second one waits for the gate."""
    if cluster.kind != "debian":
        pytest.skip("the node must be this machine, and nobody else's")
    folder = Folder(deployed)
    folder.write(HELPER, "VERSION = 'one'\n")
    tasks = {"before": RETURN, "wait": HELD, "after": RETURN, "last": RETURN}
    assert {*SAYING, "wait"} == tasks.keys()
    folder.save("gated.py", dag_source("gated", tasks))
    run = deployed.airflow.trigger("gated")
    eventually(lambda: states_of(deployed, run).get("wait") == "running", "the second task waits")
    yield run
    folder.restore()
    deployed.control.barrier(timeout=60)


def states_of(project: Project, run: DagRun) -> dict[str, str | None]:
    """The state of each task of a run."""
    tasks = project.airflow.task_instances(run.dag_id, run.run_id)
    return {task.task_id: task.state for task in tasks}


def save_version(folder: Folder, version: str) -> None:
    """Save the helper, and the DAG with one task and another line."""
    folder.write(HELPER, f"VERSION = {version!r}\n")
    folder.write("gated.py", dag_source("gated", {"only": RETURN}, top=f"# {version}"))


def assert_the_next_run_has(project: Project, version: str) -> None:
    run = project.airflow.trigger("gated")
    assert project.airflow.wait("gated", run.run_id, timeout=120).state == "success"
    assert project.airflow.xcom("gated", run.run_id, "only") == version


@pytest.mark.parametrize(
    "fault",
    [
        the_agent_is_killed,
        its_container_is_killed,
        its_pod_is_deleted_without_grace,
        the_sync_process_is_killed,
        the_store_cannot_be_written_for_a_while,
        the_agent_freezes_until_another_has_taken_its_place,
        the_laptop_sleeps_longer_than_the_agent_and_the_lease_wait,
        the_api_server_is_killed_and_comes_back,
        the_kubelet_is_killed_and_comes_back,
    ],
    ids=lambda fault: fault.__name__,
)
def test_in_the_middle_of_a_batch(
    deployed: Project, kubectl: Kubectl, held: DagRun, fault: Callable[[Half], None]
) -> None:
    folder = Folder(deployed)
    version = fault.__name__

    def save() -> None:
        folder.write("large.bin", os.urandom(LARGE))
        save_version(folder, version)

    with read_all_the_time(kubectl):
        with half_sent(deployed, kubectl, save, partly=part_of_a_large_file) as half:
            fault(half)
        assert_in_step_there(deployed, kubectl, dags={"gated"})
    assert_the_next_run_has(deployed, version)
    assert states_of(deployed, held)["wait"] == "running"


def test_an_agent_is_killed_in_the_middle_of_a_switch_of_five_thousand_files(
    deployed: Project, kubectl: Kubectl, held: DagRun
) -> None:
    folder = Folder(deployed)

    def switch(version: str) -> None:
        fresh = folder.path.parent / "fresh"
        for number in range(MANY):
            path = fresh / f"d{number % 50}" / f"q{number}.sql"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"-- {version} {number}\n".ljust(300))
        save_version(folder, version)
        if (folder.path / "queries").exists():
            (folder.path / "queries").rename(folder.path.parent / f"before-{version}")
        fresh.rename(folder.path / "queries")

    switch("a branch")
    deployed.control.barrier(timeout=60)
    with read_all_the_time(kubectl) as seen:
        save = functools.partial(switch, "another branch")
        with half_sent(deployed, kubectl, save, partly=some_of_many_files) as half:
            the_agent_is_killed(half)
        assert_in_step_there(deployed, kubectl, dags={"gated"})
    # The folder was without its queries for a moment, and the other two files came before them.
    assert len(set(seen)) <= SWITCHES
    assert_the_next_run_has(deployed, "another branch")
    assert states_of(deployed, held)["wait"] == "running"


def test_the_run_that_was_held_has_one_version(deployed: Project, held: DagRun) -> None:
    folder = Folder(deployed)
    save_version(folder, "the last")
    deployed.control.barrier(timeout=60)
    saved = datetime.now().astimezone()
    deployed.airflow.change_objects("variables", write=[{"key": "gate", "value": "open"}])
    try:
        assert deployed.airflow.wait("gated", held.run_id, timeout=120).state == "success"
        tasks = {
            task.task_id: task for task in deployed.airflow.task_instances("gated", held.run_id)
        }
        for name in ("after", "last"):
            started = tasks[name].started
            assert started is not None
            assert started > saved
        said = {name: deployed.airflow.xcom("gated", held.run_id, name) for name in SAYING}
        assert said == dict.fromkeys(SAYING, "one")
        assert len({task.bundle_version for task in tasks.values()}) == 1
        assert_the_next_run_has(deployed, "the last")
    finally:
        folder.restore()
        deployed.control.barrier(timeout=60)


def test_a_laptop_that_wakes_is_told_who_took_the_sync_meanwhile(
    cluster: ClusterAccess, deployed: Project, kubectl: Kubectl
) -> None:
    place = Cluster.connect(
        context=cluster.context,
        namespace=kubectl.namespace,
        kubeconfig=str(cluster.kubeconfig),
    )
    theirs = Lease(place, client="ben@desk#2")
    ours = holder_of(kubectl)
    process = component_pid(deployed, "sync")
    with deployed.start("sync") as terminal:
        terminal.wait_for("^watching ")
        os.kill(process, signal.SIGSTOP)
        try:
            theirs.take(take_over=True)
        finally:
            os.kill(process, signal.SIGCONT)
        terminal.wait_for("ben@desk has taken the sync over, since")
        assert holder_of(kubectl) == "ben@desk#2"
        said = len(terminal.lines)
        with deployed.start("sync", "--take-over") as again:
            again.wait_for("the sync is ours now")
        terminal.wait_for("caught up", after=said)
    assert holder_of(kubectl) == ours
    Folder(deployed).restore()
    assert_in_step_there(deployed, kubectl, dags=set())


# --- runs and saves -------------------------------------------------------------------------------

DIGEST = """
import os, pathlib
from digesting import canonical, content_digest, identify
folder = pathlib.Path(__file__).parent
rows = {}
for path in folder.rglob("*"):
    if path.is_file():
        state = content_digest()
        data = path.read_bytes()
        state.update(data)
        row = ("file", path.stat().st_mode & 0o777, len(data), state.hexdigest())
        rows[str(path.relative_to(folder))] = row
return [folder.name, identify(canonical(rows))]
""".strip()
RUNS = 8
PAUSE = 0.07
"""Seconds between two saves."""


@contextlib.contextmanager
def saves_all_the_time(folder: Folder) -> Iterator[None]:
    """Save a helper and some other file, again and again."""
    stop = threading.Event()

    def save() -> None:
        number = 0
        while not stop.wait(PAUSE):
            number += 1
            folder.write("ticking.py", f"TICK = {number}\n")
            folder.write(f"more/{number % 5}.sql", f"-- {number}")

    saver = threading.Thread(target=save)
    saver.start()
    try:
        yield
    finally:
        stop.set()
        saver.join()


def test_a_run_that_starts_in_the_moment_of_a_save_has_a_whole_snapshot(deployed: Project) -> None:
    folder = Folder(deployed)
    airflow = deployed.airflow
    folder.write("digesting.py", Path(str(entries.__file__)).read_bytes())
    folder.write("ticking.py", "TICK = 0\n")
    folder.save("digest.py", dag_source("digest", {"look": DIGEST}, top="import ticking"))

    def version() -> str | None:
        [dag] = [dag for dag in airflow.dags() if dag.dag_id == "digest"]
        return dag.bundle_version

    runs = []
    try:
        with saves_all_the_time(folder):
            for _ in range(RUNS):
                before = version()
                eventually(lambda: version() != before, "a save is parsed")  # noqa: B023 - at once
                runs.append(airflow.trigger("digest"))
            for run in runs:
                assert airflow.wait("digest", run.run_id, timeout=120).state == "success"
        found = set()
        for run in runs:
            # Not the task's: Airflow writes a version that no task has used yet anew, in place.
            name, content = airflow.xcom("digest", run.run_id, "look")
            assert (run.bundle_version, name) == (content, content)
            found.add(content)
        assert len(found) > RUNS / 2, "too few saves came between the runs"
    finally:
        folder.restore()
        deployed.control.barrier(timeout=60)
