"""A whole environment on a real Kubernetes: from `invoke up` to an empty namespace."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.cluster.another_environment import *  # noqa: F403 - cases of a second environment
from tests.cluster.breaking import *  # noqa: F403 - cases in which something breaks
from tests.cluster.deployed import OURS, PATIENCE, WORKERS, Kubectl, project_on
from tests.cluster.syncing import *  # noqa: F403 - cases of this environment
from tests.e2e.folder import EXAMPLE_DAGS, dag_source, line_of_log
from tests.e2e.machine import assert_nothing_runs, component_pid
from tests.e2e.project import ROOT, eventually
from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]


@pytest.fixture(scope="module")
def deployed(cluster: ClusterAccess, home: Path) -> Iterator[Project]:
    """An environment that is up in a namespace of its own."""
    project = project_on(cluster, home / "one", namespace="windsock-e2e")
    with project.brought_up():
        yield project
    assert_nothing_runs(project)


@pytest.fixture
def second(cluster: ClusterAccess, deployed: Project, home: Path) -> Iterator[Project]:
    """The project of a second person, in the same namespace."""
    namespace = deployed.variables["INVOKE_WINDSOCK_CLUSTER_NAMESPACE"]
    project = project_on(cluster, home / "second", namespace=namespace)
    try:
        yield project
    finally:
        project.close()
        project.invoke("down", "--volumes")
        assert_nothing_runs(project)


@pytest.fixture
def kubectl(cluster: ClusterAccess, deployed: Project) -> Kubectl:
    return Kubectl(cluster, deployed.variables["INVOKE_WINDSOCK_CLUSTER_NAMESPACE"])


def test_up_gives_a_healthy_airflow_that_has_parsed_the_examples(deployed: Project) -> None:
    status = deployed.invoke("status", "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    components = {item["name"]: item for item in json.loads(status.stdout)["components"]}
    wanted = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "sync"}
    assert wanted <= components.keys()
    assert set(deployed.control.barrier(timeout=60).dags) == EXAMPLE_DAGS
    listed = json.loads(deployed.invoke("dags.list", "--json").stdout)
    assert {dag["dag_id"] for dag in listed} == EXAMPLE_DAGS


def test_every_example_passes_its_test_with_a_pod_per_task(
    deployed: Project, kubectl: Kubectl
) -> None:
    keep = {"PYTEST_ADDOPTS": "--windsock-keep-runs"}  # so that what ran can be counted
    done = deployed.invoke("test", "--parallel", "3", **keep)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    eventually(lambda: not kubectl.names("pods", WORKERS), "the pods of finished tasks are gone")
    pods = pods_of_tasks(kubectl)
    assert pods == tries_of_tasks(deployed)
    for dag_id in EXAMPLE_DAGS:
        assert any(name.startswith(f"{dag_id.replace('_', '-')}-") for name in pods), dag_id


def pods_of_tasks(kubectl: Kubectl) -> Counter[str]:
    """How many pods of tasks have been started, by the name that each task's pods begin with."""
    started = {
        event["involvedObject"]["name"]
        for event in kubectl.items("events")
        if event["involvedObject"]["kind"] == "Pod" and event["reason"] == "Scheduled"
    }
    return Counter(
        name.rpartition("-")[0] for name in started if not name.startswith(("airflow-", "postgres"))
    )


def tries_of_tasks(project: Project) -> Counter[str]:
    """How often each task has started, by the name that its pods begin with."""
    api = project.airflow
    tries: Counter[str] = Counter()
    for run in api.runs():
        for task in api.task_instances(run.dag_id, run.run_id):
            name = f"{run.dag_id}-{task.task_id}".replace("_", "-")
            tries[name] += task.try_number
    return +tries  # without those that were skipped


def test_a_save_is_parsed_in_the_cluster_and_runs_there(deployed: Project) -> None:
    (deployed.dags / "fresh.py").write_text(dag_source("fresh", {"say": "print('in a pod')"}))
    run = deployed.invoke("dags.trigger", "fresh", "--wait", "--timeout=120", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    run_id = json.loads(run.stdout)["run_id"]
    assert line_of_log(deployed, "fresh", run_id, "say", "in a pod")
    (deployed.dags / "fresh.py").unlink()
    deployed.control.barrier(timeout=60)


def test_a_failing_tasks_log_is_readable_when_its_pod_is_gone(
    deployed: Project, kubectl: Kubectl, tmp_path: Path
) -> None:
    (deployed.dags / "failing.py").write_text(
        dag_source("failing", {"explode": "raise RuntimeError('boom in the pod')"})
    )
    test = tmp_path / "test_failing.py"
    test.write_text(
        "def test_failing(airflow):\n    assert airflow.run('failing').state == 'success'\n"
    )
    done = deployed.invoke("test", str(test))
    assert done.returncode == 1
    assert "boom in the pod" in done.stdout
    eventually(lambda: not kubectl.names("pods", WORKERS), "the pod of the failed task is gone")
    [run] = deployed.airflow.runs("failing")
    log = deployed.airflow.log("failing", run.run_id, "explode", try_number=1)
    assert any("boom in the pod" in line.text() for line in log)
    (deployed.dags / "failing.py").unlink()
    deployed.control.barrier(timeout=60)


PODS = """
from airflow.sdk import dag, task
from kubernetes.client import models as k8s

def pod(**container):
    spec = k8s.V1PodSpec(containers=[k8s.V1Container(name="base", **container)])
    return {"pod_override": k8s.V1Pod(spec=spec)}

@dag(schedule=None)
def without_image():
    @task(executor_config=pod(image="windsock.invalid/nothing:1"))
    def load():
        pass

    load()

@dag(schedule=None)
def without_room():
    @task(executor_config=pod(resources=k8s.V1ResourceRequirements(requests={"memory": "9Ti"})))
    def load():
        pass

    load()

without_image()
without_room()
"""


def test_a_run_whose_pod_does_not_start_says_why(deployed: Project, kubectl: Kubectl) -> None:
    (deployed.dags / "pods.py").write_text(PODS)
    done = deployed.invoke("dags.trigger", "without_room", "--wait", "--timeout=20", "--json")
    assert done.returncode == DeadlineExceeded.exit_code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    deployed.airflow.stop("without_room", answer["run_id"])
    kubectl.run("delete", "pod", "-l", WORKERS)  # Airflow leaves one that waits for a node.
    [reason] = answer["waiting"]
    assert (reason["code"], reason["tasks"]) == ("pod", ["load"])
    does_not = "does not start: it cannot be scheduled"
    assert re.match(rf"load: its pod without-room-load-\S+ {does_not}", reason["message"])
    assert "Insufficient memory" in reason["message"]
    assert "requests" in reason["hint"]

    done = deployed.invoke("dags.trigger", "without_image", "--wait", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    [task] = json.loads(done.stdout)["failure"]["tasks"]
    assert task["headline"].startswith("its pod without-image-load-")
    assert 'Failed to pull image "windsock.invalid/nothing:1"' in task["headline"]
    (deployed.dags / "pods.py").unlink()
    deployed.control.barrier(timeout=60)


def test_a_second_up_changes_nothing(deployed: Project, kubectl: Kubectl) -> None:
    before = {item["metadata"]["name"]: item["metadata"]["uid"] for item in kubectl.items("pods")}
    versions = [item["metadata"]["resourceVersion"] for item in kubectl.items("deployments")]
    done = deployed.up()
    assert "already up" in done.stderr
    after = {item["metadata"]["name"]: item["metadata"]["uid"] for item in kubectl.items("pods")}
    assert after == before
    assert [
        item["metadata"]["resourceVersion"] for item in kubectl.items("deployments")
    ] == versions


def test_diff_tells_nothing_when_nothing_changed(deployed: Project) -> None:
    done = deployed.invoke("diff")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_forwarded_port_survives_the_api_servers_pod(
    deployed: Project, kubectl: Kubectl
) -> None:
    deployed.close()
    kubectl.run("delete", "pod", "-l", f"{OURS},app.kubernetes.io/component=api-server")
    done = eventually(
        lambda: deployed.invoke("dags.list", "--json").returncode == 0,
        "the API answers again on the same port",
        timeout=120,
        every=1,
    )
    assert done


def test_a_save_arrives_after_the_dag_processors_pod_was_replaced(
    deployed: Project, kubectl: Kubectl
) -> None:
    kubectl.run("delete", "pod", "-l", f"{OURS},app.kubernetes.io/component=dag-processor")
    (deployed.dags / "after.py").write_text(dag_source("after"))
    settled = deployed.control.barrier(timeout=120)
    assert "after" in settled.dags
    (deployed.dags / "after.py").unlink()
    deployed.control.barrier(timeout=60)


LOOK = """
import errno, os, pathlib
names = ("FERNET_KEY", "JWT_SECRET", "SECRET_KEY", "CONN_WAREHOUSE")
secret = [name for name in os.environ if name.endswith(names)]
# Airflow itself puts an address there that refuses every connection.
secret += [name for name, value in os.environ.items() if "@postgres" in value]
token = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount").exists()
store = pathlib.Path("/opt/airflow/store")
writing = set()
for folder in (store, store / "snapshots", pathlib.Path(__file__).parent):
    try:
        (folder / "by-a-task").write_text("x")
        writing.add("done")
    except OSError as error:
        writing.add(errno.errorcode[error.errno])
print("SEEN", secret, token, os.getuid(), writing)
"""


def test_workers_hold_no_secret_and_no_token_and_cannot_write_the_store(deployed: Project) -> None:
    (deployed.dags / "look.py").write_text(dag_source("look", {"look": LOOK}))
    run = deployed.invoke("dags.trigger", "look", "--wait", "--timeout=120", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    seen = line_of_log(deployed, "look", json.loads(run.stdout)["run_id"], "look", "SEEN")
    assert "SEEN [] False 50000 {'EROFS'}" in seen
    (deployed.dags / "look.py").unlink()
    deployed.control.barrier(timeout=60)


SCHEDULER = f"{OURS},app.kubernetes.io/component=scheduler"


@contextlib.contextmanager
def without(kubectl: Kubectl, *missing: str) -> Iterator[None]:
    """Take some verbs from the scheduler's Role."""
    [role] = (
        item for item in kubectl.items("roles") if item["metadata"]["name"] == "airflow-scheduler"
    )
    verbs = role["rules"][0]["verbs"]
    change = {"op": "replace", "path": "/rules/0/verbs"}
    patch = ("patch", "role", "airflow-scheduler", "--type=json", "-p")
    assert set(missing) <= set(verbs)
    kubectl.run(*patch, json.dumps([{**change, "value": [v for v in verbs if v not in missing]}]))
    try:
        yield
    finally:
        kubectl.run(*patch, json.dumps([{**change, "value": verbs}]))


def refused(kubectl: Kubectl, verb: str) -> bool:
    # A pod that has only just been made has no log yet.
    said = kubectl.run("logs", "-l", SCHEDULER, "--tail=-1", "--ignore-errors")
    return f'cannot {verb} resource \\"pods\\"' in said


def test_the_scheduler_needs_each_verb_that_its_role_has(
    deployed: Project, kubectl: Kubectl
) -> None:
    (deployed.dags / "short.py").write_text(dag_source("short"))
    (deployed.dags / "long.py").write_text(
        dag_source("long", {"wait": "import time\ntime.sleep(600)"})
    )
    deployed.control.barrier(timeout=60)
    with without(kubectl, "create"):
        run = deployed.invoke("dags.trigger", "short", "--wait", "--timeout=120", "--json")
        assert json.loads(run.stdout)["state"] == "failed"
        eventually(lambda: refused(kubectl, "create"), "its log says why")
    # Airflow tries again and again to remove a pod that has ended, and starts nothing meanwhile.
    eventually(lambda: not kubectl.names("pods", WORKERS), "earlier tasks have no pod any more")
    with without(kubectl, "delete"):
        started = deployed.airflow.trigger("short")
        eventually(lambda: refused(kubectl, "delete"), "a finished pod cannot be removed")
    assert deployed.airflow.wait("short", started.run_id, timeout=120).state == "success"
    deployed.invoke("dags.trigger", "long")
    eventually(
        # Not that of the short one, which may still be going.
        lambda: any(name.startswith("long-") for name in kubectl.names("pods", WORKERS)),
        "the long task has a pod",
    )
    for missing in (("list", "watch"), ("patch",)):
        with without(kubectl, *missing):
            kubectl.run("delete", "pod", "-l", SCHEDULER)
            for verb in missing:
                eventually(
                    lambda verb=verb: refused(kubectl, verb),  # type: ignore[misc] # bound early
                    f"a new scheduler needs {verb}",
                    timeout=120,
                )
    kubectl.run("delete", "pod", "-l", SCHEDULER)
    kubectl.run("delete", "pod", "-l", WORKERS)  # Nobody has adopted them.
    for name in ("short", "long"):
        (deployed.dags / f"{name}.py").unlink()
    deployed.control.barrier(timeout=60)


@pytest.mark.parametrize("component", ["scheduler", "sync"])
def test_a_restarted_component_is_another_one_and_all_is_healthy(
    deployed: Project, kubectl: Kubectl, component: str
) -> None:
    def seen() -> set[str]:
        if component == "sync":
            return {str(component_pid(deployed, "sync"))}
        pods = kubectl.items("pods", f"{OURS},app.kubernetes.io/component={component}")
        return {
            item["metadata"]["uid"] for item in pods if "deletionTimestamp" not in item["metadata"]
        }

    before = seen()
    done = deployed.invoke("restart", component)
    assert done.returncode == 0, done.stderr
    assert len(before) == len(seen()) == 1
    assert before.isdisjoint(seen())
    assert deployed.invoke("status").returncode == 0
    assert set(deployed.control.barrier(timeout=60).dags) == EXAMPLE_DAGS


def test_logs_are_shown_with_the_name_of_their_component(deployed: Project) -> None:
    done = deployed.invoke("logs", "--lines", "5")
    assert done.returncode == 0, done.stderr
    for component in ("api-server", "scheduler", "dag-processor"):
        assert re.search(rf"^{component}\b", done.stdout, re.MULTILINE), done.stdout[-3000:]


def test_a_shell_runs_in_airflows_environment(deployed: Project) -> None:
    done = deployed.invoke("shell", "--", "airflow", "version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("3.3.2")
    assert deployed.invoke("shell", "--", "sh", "-c", "exit 7").returncode == 7


def test_a_context_that_is_not_allowed_is_refused_with_the_line_to_add(
    cluster: ClusterAccess, tmp_path: Path
) -> None:
    project = project_on(
        cluster,
        tmp_path / "refused",
        namespace="windsock-e2e-refused",
        INVOKE_WINDSOCK_TARGET="context",
    )
    (tmp_path / "refused" / "allowed.yaml").write_text("{}")
    done = project.invoke("up", "--detach")
    assert done.returncode == 2
    assert f"allowed_contexts: [{cluster.context}]" in done.stderr
    assert (ROOT / "invoke.yaml").exists()
