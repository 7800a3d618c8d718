"""A second environment on the cluster: two dag-processors, further folders, few snapshots.

Cases of test_environment.py, which has the environment that they all share.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster import node
from tests.cluster.deployed import KINDS, OURS, Kubectl, project_on
from tests.e2e.folder import Folder, dag_source, line_of_log, save_calendar, schedule_of
from tests.e2e.project import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

OTHER = "windsock-e2e-two"


@pytest.fixture(scope="module")
def other(cluster: ClusterAccess, deployed: Project, home: Path) -> Iterator[Project]:
    """A second environment, in another namespace."""
    place = home / "two"
    for name in ("shared", "plugins"):
        (place / name).mkdir(parents=True)
    (place / "shared" / "prices.py").write_text("TASK = 'buy'\n")
    save_calendar(place / "plugins", hour=0)
    folders = {str(place / "shared"): "include", str(place / "plugins"): "plugins"}
    project = project_on(
        cluster,
        place,
        namespace=OTHER,
        folders=folders,
        # Longer than any case waits: a dag-processor that nobody pokes must look by itself.
        airflow={"dag_processor.bundle_refresh_check_interval": "3600"},
        INVOKE_WINDSOCK_CLUSTER_OVERLAY="ha",
        # So few that each save would collect what a run still needs, if nothing prevented it.
        INVOKE_WINDSOCK_SYNC_KEEP_SNAPSHOTS="3",
    )
    with project.brought_up():
        yield project
    left = Kubectl(cluster, OTHER).run("get", KINDS, "-l", OURS, "-o", "name")
    assert left.strip() == ""
    assert deployed.invoke("status").returncode == 0


@pytest.fixture
def pods(cluster: ClusterAccess, other: Project) -> Kubectl:
    return Kubectl(cluster, other.variables["INVOKE_WINDSOCK_CLUSTER_NAMESPACE"])


def test_two_environments_live_side_by_side(deployed: Project, other: Project) -> None:
    assert other.model.url != deployed.model.url
    (other.dags / "only_here.py").write_text(dag_source("only_here"))
    assert "only_here" in other.control.barrier(timeout=60).dags
    assert "only_here" not in deployed.control.barrier(timeout=60).dags


PROCESSORS = f"{OURS},app.kubernetes.io/component=dag-processor"
SNAPSHOT = """
import json, socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("/run/windsock/dag-processor.sock")
print(json.loads(peer.makefile().readline())["snapshot"])
"""
"""Prints the snapshot that the dag-processor of a pod has noticed, from its greeting."""


def processors(pods: Kubectl) -> list[node.Object]:
    """The pods of the dag-processors, without those that are terminating."""
    return [
        pod
        for pod in pods.items("pods", PROCESSORS)
        if "deletionTimestamp" not in pod["metadata"] and "containerStatuses" in pod["status"]
    ]


def noticed(pods: Kubectl) -> set[str]:
    """The snapshots that the two dag-processors have noticed."""
    names = [pod["metadata"]["name"] for pod in processors(pods)]
    assert len(names) == 2
    return {pods.run("exec", name, "--", "python", "-c", SNAPSHOT).strip() for name in names}


def test_two_dag_processors_see_the_same_snapshot(other: Project, pods: Kubectl) -> None:
    for tasks in (["one"], ["one", "two"]):
        (other.dags / "twice.py").write_text(dag_source("twice", tasks))
        snapshot = other.control.barrier(timeout=60).snapshot
        eventually(
            # Nobody pokes the one without an agent; its stock interval is set to an hour here.
            lambda: noticed(pods) == {snapshot},  # noqa: B023 - asked at once
            "both have it",
        )
        assert other.airflow.tasks("twice") == tasks
    (other.dags / "twice.py").unlink()
    other.control.barrier(timeout=60)


def test_a_save_is_parsed_though_the_pod_with_the_agent_is_lost(
    cluster: ClusterAccess, other: Project, pods: Kubectl
) -> None:
    if cluster.kind != "debian":
        pytest.skip("the node must be this machine")
    other.control.barrier(timeout=60)
    [with_agent] = [pod for pod in ready(pods) if node.agents_in(pod)]
    [agent] = node.agents_in(with_agent)
    name = with_agent["metadata"]["name"]
    pods.run("delete", "pod", "--grace-period=0", "--force", "--wait=false", name)
    # Kubernetes has forgotten the pod at once, but its processes live on for a moment.
    eventually(lambda: not node.runs(agent), "the agent has gone with its pod")
    (other.dags / "after.py").write_text(dag_source("after", ["one", "two"]))
    assert "after" in other.control.barrier(timeout=120).dags
    assert other.airflow.tasks("after") == ["one", "two"]
    eventually(
        lambda: [len(found) for pod in ready(pods) if (found := node.agents_in(pod))] == [1],
        "one agent, in a pod that is ready",
    )
    (other.dags / "after.py").unlink()
    other.control.barrier(timeout=60)
    eventually(lambda: len(ready(pods)) == 2, "two of them run again")


def ready(pods: Kubectl) -> list[node.Object]:
    """The pods of the dag-processors that are ready."""
    return [
        pod
        for pod in processors(pods)
        if any(each["ready"] for each in pod["status"].get("containerStatuses", ()))
    ]


HELD = """
import time
from airflow.sdk import Variable
while Variable.get("gate", default="closed") != "open":
    time.sleep(0.2)
"""
STORE = "/opt/airflow/store"
AGE = f"""
import os, pathlib
for manifest in pathlib.Path("{STORE}/manifests").iterdir():
    old = manifest.stat().st_mtime_ns - 3600 * 10**9
    os.utime(manifest, ns=(old, old))
"""
"""Makes every snapshot look an hour older, and none of them newer than the next."""


def test_the_snapshot_of_a_run_is_kept_until_the_run_has_ended(
    other: Project, pods: Kubectl
) -> None:
    def in_processor(*command: str) -> str:
        return pods.run("exec", "deployment/airflow-dag-processor", "--", *command)

    def kept() -> set[str]:
        return set(in_processor("ls", f"{STORE}/snapshots").split())

    def save(version: str) -> str:
        source = dag_source(
            "held",
            {"wait": HELD, "say": "print('version', VERSION)"},
            top=f"VERSION = {version!r}",
        )
        (other.dags / "held.py").write_text(source)
        return other.control.barrier(timeout=60).snapshot

    def collect_after_more_saves(title: str) -> None:
        """Save more often than snapshots are kept, let all look old, wait for the collector."""
        fresh = [save(f"{title} {number}") for number in range(5)]
        in_processor("python", "-c", AGE)
        eventually(lambda: kept().isdisjoint(fresh[:2]), "the collector was at work", every=0.5)
        assert kept() >= set(fresh[2:])

    mine = save("first")
    run = other.airflow.trigger("held")
    eventually(
        lambda: any(
            item.state == "running" for item in other.airflow.task_instances("held", run.run_id)
        ),
        "the first task waits",
    )
    collect_after_more_saves("during")
    assert mine in kept()

    other.airflow.change_objects("variables", write=[{"key": "gate", "value": "open"}])
    assert other.airflow.wait("held", run.run_id, timeout=120).state == "success"
    assert "version first" in line_of_log(other, "held", run.run_id, "say", "version")
    collect_after_more_saves("after")
    eventually(lambda: mine not in kept(), "nobody needs it any more", every=0.5)
    (other.dags / "held.py").unlink()
    other.control.barrier(timeout=60)


def test_a_task_has_what_it_imports_from_another_folder_and_plugins_are_loaded(
    other: Project, pods: Kubectl
) -> None:
    source = dag_source(
        "weekly",
        {"only": "from include import prices\nprint('prices:', prices.TASK)"},
        top="from calendar_plugin import Weekdays\nfrom include.prices import TASK",
        task_id="TASK",
    )
    Folder(other).save("weekly.py", source.replace("schedule=None", "schedule=Weekdays()"))
    assert other.control.status()["errors"] == {}
    assert schedule_of(other, "weekly") == "0 0 * * 1-5"
    run = other.invoke("dags.trigger", "weekly", "--wait", "--timeout=120", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    run_id = json.loads(run.stdout)["run_id"]
    assert line_of_log(other, "weekly", run_id, "buy", "prices:") == "prices: buy"
    other.close()

    schedulers = f"{OURS},app.kubernetes.io/component=scheduler"
    before = set(pods.names("pods", schedulers))
    save_calendar(other.home / "plugins", hour=6)
    other.control.barrier(timeout=300)  # Five components start anew, two of them one by one.

    assert schedule_of(other, "weekly") == "0 6 * * 1-5"
    assert before.isdisjoint(pods.names("pods", schedulers))
    assert other.control.status()["errors"] == {}
