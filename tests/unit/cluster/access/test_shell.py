"""A command in a pod, by a kubectl that is a script of ours; the real one is in tests/cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from windsock.cluster.access.shell import run
from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.workloads import COMPONENT
from windsock.errors import ConfigurationError, EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "the-pod", "labels": {**MANAGED, COMPONENT: "scheduler"}},
    "spec": {"containers": [{"name": "main"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}

FORBIDDEN = (
    'Error from server (Forbidden): pods "the-pod" is forbidden: User "anna" cannot create '
    'resource "pods/exec" in API group "" in the namespace "mine"'
)


@pytest.fixture
def shell(
    api: FakeApi, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], int]:
    """Run a command by a kubectl that does what the script says."""
    api.put(POD)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def run_by(script: str) -> int:
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return run(cluster, "scheduler", ["airflow", "info"], interactive=False)

    return run_by


def test_kubectl_gets_the_place_the_pod_and_the_command(
    shell: Callable[[str], int], cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert shell('echo "$KUBECONFIG $*"') == 0
    said = capfd.readouterr().out.split()
    assert said[0] == cluster.connection.kubeconfig
    assert said[1:3] == [f"--context={cluster.context}", f"--namespace={cluster.namespace}"]
    assert said[-5:] == ["--container=main", "the-pod", "--", "airflow", "info"]


def test_the_errors_of_the_command_arrive_without_kubectls_own(
    shell: Callable[[str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    broken_pipe = 'E1201 04:03:06.256435   24548 v2.go:104] "Unhandled Error" err="broken pipe"'
    script = f"""
    echo 'a warning' >&2
    echo 'error: of the command itself' >&2
    echo '{broken_pipe}' >&2
    echo 'command terminated with exit code 7' >&2
    exit 7"""
    assert shell(script) == 7
    assert capfd.readouterr().err == "a warning\nerror: of the command itself\n"


@pytest.mark.parametrize(
    ("words", "kind", "message", "hint"),
    [
        (
            FORBIDDEN,
            EnvironmentFailure,
            "the account anna may not create pods/exec in namespace mine",
            "It needs a Role with this rule",
        ),
        (
            'error: Internal error occurred: exec: "airflow": executable file not found in $PATH',
            ConfigurationError,
            "the pod cannot run it",
            "Is the program in the image",
        ),
        (
            'Error from server (NotFound): pods "the-pod" not found',
            EnvironmentFailure,
            "kubectl could not run a command in pod the-pod",
            "Was the pod replaced",
        ),
        ("", EnvironmentFailure, "it gave no reason", "Was the pod replaced"),
    ],
)
def test_what_kubectl_refuses_is_explained(
    shell: Callable[[str], int], words: str, kind: type[WindsockError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as raised:
        shell(f"echo '{words}' >&2; exit 1")
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_without_kubectl_it_is_named(
    api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put(POD)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="kubectl is not installed"):
        run(cluster, "scheduler", ["true"], interactive=False)
