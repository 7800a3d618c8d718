from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dev.benchmarks import devspace

if TYPE_CHECKING:
    from pathlib import Path

STAND_IN = """#!/bin/sh
echo "$$" > said.new; printf '%s\\n' "$@" >> said.new; mv said.new said
exec sleep 600
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `devspace` on PATH that writes down what it was told, and stays."""
    program = tmp_path / "bin" / "devspace"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("stand_in")
def test_it_syncs_one_way_into_the_pod_and_ends_with_the_block(tmp_path: Path) -> None:
    assert devspace.is_here()
    folder = tmp_path / "files"
    folder.mkdir()
    cluster: Any = SimpleNamespace(namespace="bench", context="lab")
    with devspace.syncing(
        folder, "/end", cluster=cluster, pod="p-1", container="c", kubeconfig="/k"
    ):
        [child] = psutil.Process().children()
        while not (folder / "said").exists():
            assert child.is_running()
            psutil.wait_procs([child], timeout=0.01)
    pid, *said = (folder / "said").read_text().splitlines()
    assert not psutil.pid_exists(int(pid))
    assert said[0] == "sync"
    assert {
        f"--path={folder}:/end",
        "--pod=p-1",
        "--container=c",
        "--namespace=bench",
        "--kube-context=lab",
        "--kubeconfig=/k",
        "--upload-only",
    } <= set(said)


def test_without_it_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not devspace.is_here()
