from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.fakes import KeptConsole
from windsock.config import Settings
from windsock.errors import EnvironmentFailure
from windsock.targets.applied import Applied
from windsock.targets.cluster import ClusterTarget
from windsock.targets.remembered import Remembered

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS: list[dict[str, Any]] = [{"kind": "Service", "metadata": {"name": "a"}}]


def test_what_was_applied_is_known_until_something_else_is_begun(tmp_path: Path) -> None:
    applied = Applied(tmp_path)
    assert not applied.is_exactly(OBJECTS)
    applied.remember(OBJECTS)
    assert applied.is_exactly(OBJECTS)
    assert not applied.is_exactly([])
    assert not applied.by_others()
    applied.forget()
    assert not applied.is_exactly(OBJECTS)


def test_others_are_known_until_it_is_ours_again(tmp_path: Path) -> None:
    applied = Applied(tmp_path)
    applied.remember_others()
    assert applied.by_others()
    assert not applied.is_exactly(OBJECTS)
    applied.remember(OBJECTS)
    assert not applied.by_others()


def test_nothing_is_deployed_over_what_others_apply(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    settings = Settings(project=tmp_path)
    settings.state_folder.mkdir()
    Applied(settings.state_folder).remember_others()
    place = Remembered(target="context", context="lab", namespace="anna")
    target = ClusterTarget(settings, place=place, variables={})
    with pytest.raises(EnvironmentFailure, match="deployed by others") as caught:
        target.prepare(KeptConsole())  # It would ask the cluster next, and there is none.
    assert "tilt up" in caught.value.hint
