"""`invoke up --rebuild` on a cluster, with requirements that cannot be built, or cannot run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import pytest

from tests.cluster import wheels
from tests.cluster.debian.commands import Commands
from tests.cluster.debian.engine import bridge_address
from tests.cluster.deployed import OURS, PATIENCE, Kubectl
from tests.cluster.test_deploy import NAMESPACE, PACKAGE, project
from tests.e2e.folder import EXAMPLE_DAGS, dag_source
from tests.e2e.project import ROOT, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

__all__ = ["project"]  # a fixture, which pytest finds by its name

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

BROKEN = "iniconfig==0.0.999"
"""A version that was never published."""
QUESTION = r"rebuild and restart now\? \[y/N\]"
HARMFUL = (
    'import os, sys; "KUBERNETES_SERVICE_HOST" in os.environ and '
    '(sys.stderr.write("broken on purpose" + chr(10)), os._exit(7))\n'
)
"""A line that Python runs at each start: in a pod it ends there, while it is built it does not."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command of a project on a terminal, whose person types; to be used in a `with` statement.

    Args:
        project: Whose command it is.
        arguments: Of invoke.
    """

    def __init__(self, project: Project, *arguments: str) -> None:
        self._said = threading.Condition()
        self._text = ""
        self._read_up_to = 0
        self._terminal, inner = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=ROOT,
            env={**project.environ(), "TERM": "xterm"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # nobody has the other end any more
                return
            with self._said:
                self._text += CONTROL.sub("", data.decode("utf-8", "replace"))
                self._said.notify_all()

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._terminal)

    def wait_for(self, pattern: str, *, timeout: float = 60) -> str:
        """What is said next that the pattern is found in: after what was waited for before."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self._text[self._read_up_to :])

        with self._said:
            match = self._said.wait_for(found, timeout=timeout)
            assert match is not None, f"no {pattern!r} within {timeout} s:\n{self._text}"
            self._read_up_to += match.end()
            return match[0]

    def answer(self, text: str) -> None:
        """Type a line."""
        os.write(self._terminal, f"{text}\n".encode())

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(60)


def test_what_cannot_be_built_changes_nothing_and_can_be_taken_back(
    project: Project, cluster: ClusterAccess
) -> None:
    project.up()
    kubectl = Kubectl(cluster, NAMESPACE)
    requirements = project.home / "requirements.txt"

    def running() -> dict[str, str]:
        return {
            item["metadata"]["name"]: item["metadata"]["uid"]
            for item in kubectl.items("pods", OURS)
        }

    before = running()
    with Terminal(project, "up", "--rebuild", "ask") as up:
        up.wait_for("watching for saves")
        requirements.write_text(f"{PACKAGE}\n")
        up.wait_for(r"requirements\.txt changed: the airflow image must be rebuilt")
        up.wait_for(QUESTION)
        requirements.write_text("")  # While it is asked.
        up.wait_for("what runs is built of it already")

        requirements.write_text(f"{BROKEN}\n")
        up.wait_for(QUESTION)
        up.answer("")
        up.wait_for("not now; `invoke up --detach` in another terminal rebuilds")

        requirements.write_text(f"# once more\n{BROKEN}\n")
        up.wait_for(QUESTION)
        up.answer("y")
        up.wait_for(r"iniconfig", timeout=PATIENCE)
        up.wait_for("not rebuilt; saves are synced as before", timeout=PATIENCE)
        assert running() == before

        (project.dags / "saved.py").write_text(dag_source("saved"))
        up.wait_for(r"saved\.py")
        assert set(project.control.barrier(timeout=60).dags) == EXAMPLE_DAGS | {"saved"}

        requirements.write_text("")
        up.wait_for("what runs is built of it already")
        assert up.interrupt() == 0
    assert running() == before
    assert project.invoke("diff").returncode == 0
    run = project.invoke("dags.trigger", "saved", "--wait", "--timeout=120", "--json")
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_is_built_and_does_not_run_is_taken_back(
    project: Project, cluster: ClusterAccess, tmp_path: Path
) -> None:
    if cluster.images != "docker":
        pytest.skip("the package is served where only the Docker of this machine reaches it")
    project.up()
    kubectl = Kubectl(cluster, NAMESPACE)
    requirements = project.home / "requirements.txt"

    def images() -> set[str]:
        return {
            container["image"]
            for item in kubectl.items("pods", OURS)
            for container in item["spec"]["containers"]
        }

    before = images()
    wheel = wheels.write_wheel(tmp_path, "harmful", "1.0", {"harmful.pth": HARMFUL})
    with (
        wheels.served(tmp_path, bridge_address(Commands())) as url,
        project.start("up", "--rebuild", "auto") as up,
    ):
        up.wait_for("watching for saves")
        requirements.write_text(f"harmful @ {url}/{wheel}\n")
        up.wait_for("the airflow image must be rebuilt")
        up.wait_for("broken on purpose", timeout=PATIENCE)
        up.wait_for("going back to what ran before")
        up.wait_for("not rebuilt; saves are synced as before", timeout=PATIENCE)

        (project.dags / "after.py").write_text(dag_source("after"))
        up.wait_for(r"after\.py")
        requirements.write_text("")
        up.wait_for("what runs is built of it already")
        up.interrupt()
        assert up.end() == 0, up.text()
    eventually(lambda: images() == before, "the pods of what was taken back are gone")
    assert project.invoke("diff").returncode == 0
    run = project.invoke("dags.trigger", "after", "--wait", "--timeout=120", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
