"""Whether the machine has a kubectl that is new enough, and what is done if not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian import kubectl, packages
from tests.unit.debian.recorded import Recorded
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = """\
Debian http://mirror.test/debian bookworm main
Debian http://mirror.test/debian bookworm-updates main
Debian http://mirror.test/debian-security bookworm-security main
"""


def said(major: str, minor: str) -> str:
    return json.dumps({"clientVersion": {"major": major, "minor": minor}})


class Machine(Recorded):
    """A machine with apt; `kubectl` says nothing until it is installed.

    Args:
        says: As for `Recorded`.
        after: What kubectl says once apt has installed it.
    """

    def __init__(self, says: Mapping[str, str], *, after: str = "") -> None:
        super().__init__({"apt-get": "", "apt-config": "", **says})
        self._after = after
        self.listed = ""

    def run(
        self,
        *arguments: str | Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        given: str = "",
    ) -> str:
        if "indextargets" in arguments:
            return SOURCES
        for option in map(str, arguments):
            if option.startswith("-oDir::Etc::SourceList="):
                self.listed = Path(option.partition("=")[2]).read_text()
        if arguments[:2] == ("apt-get", "install"):
            self.says["kubectl"] = self._after
        return super().run(*arguments, folder=folder, environment=environment, given=given)

    @property
    def installed(self) -> list[str]:
        return [line[-1] for line in self.ran if line[:2] == ["apt-get", "install"]]


@pytest.fixture(autouse=True)
def debian_12(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "check_machine", lambda: None)
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy")
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")


@pytest.mark.parametrize("minor", ["27", "32", "27+", "32-dispatcher"])
def test_one_that_is_new_enough_stays(minor: str) -> None:
    machine, told = Machine({"kubectl": said("1", minor)}), list[str]()
    kubectl.ensure(machine, told.append)
    assert machine.installed == told == []


@pytest.mark.parametrize("before", [{}, {"kubectl": said("1", "20")}, {"kubectl": "nothing"}])
def test_that_of_debian_13_is_installed_from_the_machine_s_own_archive(
    before: dict[str, str],
) -> None:
    machine, told = Machine(before, after=said("1", "32")), list[str]()
    kubectl.ensure(machine, told.append)
    assert machine.installed == ["kubectl"]
    assert machine.listed == "deb http://mirror.test/debian trixie main\n"
    assert len(told) == 1


def test_one_that_stands_before_it_on_path_is_told() -> None:
    with pytest.raises(EnvironmentFailure, match=r"1\.20 is too old \(/usr/bin/kubectl\)"):
        kubectl.ensure(Machine({"kubectl": said("1", "20")}, after=said("1", "20")), lambda _: None)


def test_on_another_machine_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise EnvironmentFailure("this is no Debian 12")

    monkeypatch.setattr(packages, "check_machine", refuse)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    machine = Machine({})
    with pytest.raises(EnvironmentFailure, match="kubectl is not installed") as refused:
        kubectl.ensure(machine, lambda _: None)
    assert "1.27" in refused.value.hint
    assert machine.ran == []
