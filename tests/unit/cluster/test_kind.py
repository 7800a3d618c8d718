from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from windsock.cluster.kind import Kind
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

STAND_IN = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
clusters = folder / "clusters"
known = clusters.read_text().split() if clusters.exists() else []
name = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else ""
verb = " ".join(sys.argv[1:3])
if (folder / verb.replace(" ", "-")).exists():
    sys.exit("ERROR: " + (folder / verb.replace(" ", "-")).read_text())
if verb == "get clusters":
    print("\\n".join(known) or "No kind clusters found.")
elif verb == "create cluster":
    print("Creating cluster ...", file=sys.stderr)
    clusters.write_text(" ".join([*known, name]))
elif verb == "delete cluster":
    clusters.write_text(" ".join(item for item in known if item != name))
"""


class StandIn:
    """A program that behaves as kind does, as far as we ask, and records what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "kind"
        self.program.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
        self.program.chmod(0o755)

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def fail(self, verb: str, reason: str) -> None:
        (self.folder / verb.replace(" ", "-")).write_text(reason)

    def kind(self, kubeconfig: str | None = None) -> Kind:
        return Kind(
            name="demo",
            config=self.folder / "kind.yaml",
            kubeconfig=kubeconfig,
            program=str(self.program),
        )


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def silent(_: str) -> None:
    pass


def test_a_cluster_is_created_once_with_its_configuration(stand_in: StandIn) -> None:
    said: list[str] = []
    assert stand_in.kind().ensure(said.append)
    assert not stand_in.kind().ensure(said.append)
    assert said == ["Creating cluster ..."]
    created = [call for call in stand_in.calls() if call[:2] == ["create", "cluster"]]
    assert len(created) == 1
    assert str(stand_in.folder / "kind.yaml") in created[0]


def test_a_lost_kubeconfig_entry_comes_back(stand_in: StandIn) -> None:
    kind = stand_in.kind(kubeconfig="/somewhere/config")
    kind.ensure(silent)
    kind.ensure(silent)
    exported = ["export", "kubeconfig", "--name", "demo", "--kubeconfig", "/somewhere/config"]
    assert stand_in.calls()[-1] == exported


def test_a_failed_creation_is_removed_and_told(stand_in: StandIn) -> None:
    stand_in.fail("create cluster", "no space left on device")
    with pytest.raises(EnvironmentFailure, match="kind create cluster") as caught:
        stand_in.kind().ensure(silent)
    assert "no space left" in caught.value.hint
    assert stand_in.calls()[-1][:2] == ["delete", "cluster"]


def test_only_its_own_cluster_is_deleted(stand_in: StandIn) -> None:
    (stand_in.folder / "clusters").write_text("precious demo")
    stand_in.kind().delete()
    assert (stand_in.folder / "clusters").read_text() == "precious"


def test_images_are_loaded_and_as_an_archive_where_that_fails(stand_in: StandIn) -> None:
    saved: list[str] = []

    def save(image: str, archive: Path) -> None:
        saved.append(image)
        archive.write_bytes(b"layers")

    stand_in.kind().load(["airflow:1"], save=save, progress=silent)
    assert saved == []
    stand_in.fail("load docker-image", "content digest sha256:… not found")
    stand_in.kind().load(["airflow:1"], save=save, progress=silent)
    assert saved == ["airflow:1"]
    assert stand_in.calls()[-1][:2] == ["load", "image-archive"]


def test_without_kind_a_person_is_told_where_to_get_it(tmp_path: Path) -> None:
    kind = Kind(name="demo", config=tmp_path / "kind.yaml", program=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="kind is not installed") as caught:
        kind.exists()
    assert "--target local" in caught.value.hint
