"""What a person sees of the sync on a cluster where Airflow runs.

Cases of test_environment.py, which has the environment that they all share.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.e2e.folder import EXAMPLE_DAGS, Folder, dag_source
from tests.e2e.project import Project, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.deployed import Kubectl
    from tests.e2e.project import Command

PROCESSOR_POD = "deploy/airflow-dag-processor"
PROCESSOR = "app.kubernetes.io/component=dag-processor"
KILL_AGENT = """
import contextlib, os, pathlib
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):  # Others end meanwhile.
        command = (folder / "cmdline").read_bytes()
        if int(folder.name) != os.getpid() and b"module.main()" in command:
            os.kill(int(folder.name), 9)
"""
LOOK = """
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1]).resolve()
for path in sorted(root.rglob("*")):
    if path.is_file() and path.name != ".stignore":  # Okteto's own, never synced
        digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
        print(path.relative_to(root), digest)
"""


def assert_in_step_there(project: Project, kubectl: Kubectl, *, dags: set[str]) -> None:
    """The store in the pod holds the folder, and Airflow lists exactly its DAGs."""
    settled = project.control.barrier(timeout=120)
    assert set(settled.dags) == EXAMPLE_DAGS | dags
    look = ("python3", "-c", LOOK)
    there = kubectl.run("exec", PROCESSOR_POD, "--", *look, "/opt/airflow/store/current")
    here = subprocess.run(
        [*look, project.dags],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert there == here
    eventually(
        lambda: {dag.dag_id for dag in project.airflow.dags()} == EXAMPLE_DAGS | dags,
        "Airflow lists exactly the DAGs of the folder",
    )


def test_the_terminal_says_disconnected_connected_behind_and_caught_up(
    deployed: Project, kubectl: Kubectl
) -> None:
    folder = Folder(deployed)

    def end_the_pod() -> None:
        kubectl.run("delete", "pod", "--wait=false", "-l", PROCESSOR)

    def end_the_stream() -> None:
        kubectl.run("exec", PROCESSOR_POD, "--", "python3", "-c", KILL_AGENT)

    with deployed.start("sync") as terminal:
        terminal.wait_for("^watching ")
        assert _told_after(end_the_stream, deployed, terminal) == ["connected", "caught up"]
        names = {f"late_{number}" for number in range(3)}

        def end_and_save() -> None:
            end_the_pod()
            terminal.wait_for("disconnected", after=len(before))
            for name in names:
                folder.write(f"{name}.py", dag_source(name))

        before = list(terminal.lines)
        told = _told_after(end_and_save, deployed, terminal)
        assert told == ["connected", "behind by 3 files", "caught up"]
    assert_in_step_there(deployed, kubectl, dags=names)
    folder.restore()
    deployed.control.barrier(timeout=60)


def _told_after(fault: Callable[[], None], project: Project, terminal: Command) -> list[str]:
    """What the terminal says of the connection, in words, once it is caught up; no line twice."""
    before = len(terminal.lines)
    fault()
    project.control.barrier(timeout=120)
    terminal.wait_for("caught up", after=before)
    lines = [line.strip("✓!✗ ") for line in terminal.lines[before:]]
    lost = [line for line in lines if line.startswith("disconnected")]
    assert lost, terminal.text()
    assert len(lost) == len(set(lost)), terminal.text()
    return [line for line in lines if line.startswith(("connected", "behind", "caught"))]


VERSION_OF_HELPER = "VERSION = {version!r}\n"
TASKS = dict.fromkeys(
    ("first", "second", "third"), "from of_the_run import VERSION\nreturn VERSION"
)


def test_a_run_has_one_version_while_saves_and_faults_go_on(
    deployed: Project, kubectl: Kubectl
) -> None:
    folder = Folder(deployed)
    folder.write("of_the_run.py", VERSION_OF_HELPER.format(version="one"))
    folder.save("mixed.py", dag_source("mixed", TASKS))
    airflow = deployed.airflow
    airflow.pause("mixed", paused=False)
    run = airflow.trigger("mixed")
    eventually(
        lambda: (
            airflow.task_instances("mixed", run.run_id)
            and any(
                task.state in ("running", "success")
                for task in airflow.task_instances("mixed", run.run_id)
            )
        ),
        "the run has begun",
    )
    for number in range(6):
        folder.write("of_the_run.py", VERSION_OF_HELPER.format(version=f"later {number}"))
        folder.write("mixed.py", dag_source("mixed", TASKS, top=f"# {number}"))
        if number % 3 == 1:
            kubectl.run("exec", PROCESSOR_POD, "--", "python3", "-c", KILL_AGENT)
        deployed.control.barrier(timeout=60)
    assert airflow.wait("mixed", run.run_id, timeout=120).state == "success"
    said = {task: airflow.xcom("mixed", run.run_id, task) for task in TASKS}
    assert said == dict.fromkeys(TASKS, "one")
    assert_in_step_there(deployed, kubectl, dags={"mixed"})
    folder.restore()
    deployed.control.barrier(timeout=60)


def test_a_second_person_is_told_who_syncs_and_can_take_it_over(
    deployed: Project, second: Project, kubectl: Kubectl
) -> None:
    [lease] = kubectl.items("leases.coordination.k8s.io")
    ours = lease["spec"]["holderIdentity"]
    who = ours.partition("#")[0]
    before = [item["metadata"]["resourceVersion"] for item in kubectl.items("deployments")]

    refused = second.invoke("up", "--detach")
    assert refused.returncode == 3
    assert f"{who} syncs here, since" in refused.stderr
    assert "--take-over" in refused.stderr
    assert [i["metadata"]["resourceVersion"] for i in kubectl.items("deployments")] == before

    with deployed.start("sync") as terminal:
        terminal.wait_for("^watching ")
        taken = second.invoke("up", "--detach", "--take-over")
        assert taken.returncode == 0, taken.stderr + second.log_ends()
        terminal.wait_for("has taken the sync over, since")
        [lease] = kubectl.items("leases.coordination.k8s.io")
        assert lease["spec"]["holderIdentity"] not in ("", ours)
        assert "has taken the sync over" in deployed.invoke("status").stdout

        (second.dags / "of_theirs.py").write_text(dag_source("of_theirs"))
        assert "of_theirs" in second.control.barrier(timeout=60).dags
        # The one that lost it leaves what is in the cluster; here it takes it back instead.
        with deployed.start("sync", "--take-over") as again:
            again.wait_for("the sync is ours now")
        terminal.wait_for("caught up")
    # Theirs learns of it when it looks at the lease or its connection ends: soon, not at once.
    eventually(
        lambda: second.control.status()["busy"].startswith(who), "the second is told who syncs"
    )
    left = second.invoke("down", "--volumes")
    assert left.returncode == 0, left.stderr
    assert f"{who} syncs here" in left.stderr or f"{who} has taken" in left.stderr
    assert_in_step_there(deployed, kubectl, dags=set())

    # What is applied is still theirs, so it is not called up as it is.
    assert "already up" not in deployed.up().stderr
    assert "already up" in deployed.up().stderr
