"""A test session leaves the cluster as it found it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster import conftest
from tests.cluster.debian import cluster
from tests.cluster.debian.cluster import State

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (State(docker=False, parts=(), ready=False), ["up", "down keep_docker=False"]),
        (State(docker=True, parts=(), ready=False), ["up", "down keep_docker=True"]),
        (State(docker=True, parts=("etcd",), ready=True), ["up"]),
    ],
)
def test_what_a_session_brought_up_it_takes_down(
    monkeypatch: pytest.MonkeyPatch, before: State, then: list[str]
) -> None:
    done = []

    def up(progress: Callable[[str], None]) -> Path:
        del progress
        done.append("up")
        return Path("/kubeconfig")

    def down(progress: Callable[[str], None], *, keep_docker: bool) -> None:
        del progress
        done.append(f"down keep_docker={keep_docker}")

    monkeypatch.setattr(cluster, "state", lambda: before)
    monkeypatch.setattr(cluster, "up", up)
    monkeypatch.setattr(cluster, "down", down)
    with pytest.raises(RuntimeError, match="a test failed"), conftest._debian() as access:  # noqa: PT012 - the session's body
        assert (access.kubeconfig, access.context) == (Path("/kubeconfig"), "debian")
        raise RuntimeError("a test failed")
    assert done == then
