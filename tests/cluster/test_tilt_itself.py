"""Tilt itself, where it is installed: it reads the Tiltfile, and `tilt ci` runs the DAG tests.

On kind alone: Tilt brings its images there by itself, elsewhere it needs a registry.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.deployed import PATIENCE, Kubectl, project_on
from tests.e2e.machine import assert_nothing_runs
from tests.e2e.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.e2e.project import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2 * PATIENCE)]

NAMESPACE = "windsock-tilt-ci"


@pytest.fixture
def project(cluster: ClusterAccess) -> Iterator[Project]:
    if shutil.which("tilt") is None:
        pytest.skip("tilt is not installed")
    if cluster.images != "kind":
        pytest.skip("Tilt brings its images to kind alone without a registry")
    with tempfile.TemporaryDirectory(prefix="windsock-tilt-ci-") as folder:
        project = project_on(cluster, Path(folder).resolve(), namespace=NAMESPACE)
        try:
            yield project
        finally:
            _tilt(project, "down", "--delete-namespaces")
            Kubectl(cluster, NAMESPACE).run("delete", "namespace", NAMESPACE, "--ignore-not-found")


def _tilt(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    context = project.variables["INVOKE_WINDSOCK_CLUSTER_CONTEXT"]
    program = shutil.which("tilt")
    assert program is not None
    return subprocess.run(
        [program, *arguments, "--context", context],
        cwd=ROOT,
        # It would tell its makers of each run.
        env={**project.environ(), "TILT_DISABLE_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_tilt_takes_the_tiltfile(project: Project) -> None:
    done = _tilt(project, "alpha", "tiltfile-result")
    assert done.returncode == 0, done.stdout + done.stderr


def test_tilt_ci_brings_it_up_and_runs_the_dag_tests(project: Project) -> None:
    done = _tilt(project, "ci")
    (ROOT / "junit.xml").unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert_nothing_runs(project)
