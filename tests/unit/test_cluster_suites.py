"""The cluster of tests/cluster: a kind cluster that was up before is left as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.cluster import conftest as suites
from tests.contract.kind.stand_in import machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_one_that_was_up_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with machine(tmp_path) as here:
        here.kind(name=suites.KIND_CLUSTER).ensure(lambda _: None)
        with suites._kind():
            pass
        assert here.docker.clusters() == [suites.KIND_CLUSTER]
