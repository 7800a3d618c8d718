"""What the contract of kind (tests/contract/kind) cannot bring about on a real machine."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.contract.kind.stand_in import StandIn, machine
from windsock.cluster.kind import Kind
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path) -> Iterator[StandIn]:
    with machine(tmp_path) as stand_in:
        yield stand_in


def silent(_: str) -> None:
    pass


def test_it_is_created_with_its_configuration_and_waited_for(here: StandIn) -> None:
    here.kind().ensure(silent)
    [created] = [call for call in here.calls() if call[:2] == ["create", "cluster"]]
    assert created[created.index("--config") + 1] == str(here.config)
    assert created[created.index("--wait") + 1] == "5m"


def test_nodes_of_somebody_who_was_quicker_are_left_alone(here: StandIn) -> None:
    here.plan(quicker=True)
    assert not here.kind().ensure(silent)
    assert here.docker.clusters() == ["demo"]
    assert not [call for call in here.calls() if call[0] == "delete"]


def test_one_that_cannot_be_marked_is_removed(here: StandIn) -> None:
    here.plan(readonly=True)
    with pytest.raises(EnvironmentFailure, match="nothing can be written"):
        here.kind().ensure(silent)
    assert here.docker.clusters() == []


def test_one_of_others_whose_node_is_not_ready_is_not_used(here: StandIn) -> None:
    here.docker.put("demo", uid=uuid.uuid4().hex, complete=True, ready=False, images=[])
    with pytest.raises(EnvironmentFailure, match="not complete") as caught:
        here.kind().ensure(silent)
    assert "not ready: demo-control-plane" in caught.value.hint


def test_the_home_folder_may_be_written_short(
    here: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here.kind(kubeconfig="~/clusters/demo").ensure(silent)
    assert (tmp_path / "home" / "clusters" / "demo").exists()


def test_a_node_that_came_while_kind_was_interrupted_is_removed_as_well(here: StandIn) -> None:
    here.plan(slow=True, late=True)

    def interrupt(line: str) -> None:
        if "Preparing nodes" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here.kind().ensure(interrupt)
    assert here.docker.clusters() == []


def test_a_kind_that_will_not_end_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "kind"
    program.write_text(
        "#!/bin/sh\ncase $1 in create) ;; *) exit 0;; esac\n"
        f"trap '' TERM\necho $$ >{tmp_path}/pid\necho started >&2\nwhile :; do sleep 1; done\n"
    )
    program.chmod(0o755)
    kind = Kind(
        name="demo",
        config=tmp_path / "kind.yaml",
        kubeconfig=str(tmp_path / "kubeconfig"),
        program=str(program),
        patience=0.05,
    )

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kind.ensure(interrupt)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_what_kind_says_of_docker_is_told(here: StandIn) -> None:
    here.plan(docker="Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
    with pytest.raises(EnvironmentFailure, match="`kind get clusters` failed") as caught:
        here.kind().exists()
    assert "Cannot connect to the Docker daemon" in caught.value.hint


def test_without_kind_a_person_is_told_where_to_get_it(tmp_path: Path) -> None:
    kind = Kind(name="demo", config=tmp_path / "kind.yaml", program=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="kind is not installed") as caught:
        kind.exists()
    assert "--target local" in caught.value.hint


def test_a_kind_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    program = tmp_path / "kind"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    kind = Kind(name="demo", config=tmp_path / "kind.yaml", program=str(program))
    with pytest.raises(EnvironmentFailure, match="kind cannot be started: Exec format error"):
        kind.exists()
