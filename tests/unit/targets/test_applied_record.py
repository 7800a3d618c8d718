from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.fakes import KeptConsole
from windsock.config import Settings
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster.applied_record import AppliedRecord
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location
from windsock.targets.plan import Action, run_steps

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS: list[dict[str, Any]] = [{"kind": "Service", "metadata": {"name": "a"}}]


def test_what_was_applied_is_known_until_something_else_is_begun(tmp_path: Path) -> None:
    applied = AppliedRecord(tmp_path)
    assert applied.action(OBJECTS) is Action.MAKE
    applied.save(OBJECTS)
    assert applied.action(OBJECTS) is Action.NONE
    assert applied.action([]) is Action.CHANGE
    assert not applied.by_others()
    applied.clear()
    assert applied.action(OBJECTS) is not Action.NONE


def test_others_are_known_until_it_is_ours_again(tmp_path: Path) -> None:
    applied = AppliedRecord(tmp_path)
    applied.save_by_others()
    assert applied.by_others()
    assert applied.action(OBJECTS) is Action.CHANGE
    applied.save(OBJECTS)
    assert not applied.by_others()


def test_nothing_is_deployed_over_what_others_apply(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    settings = Settings(project=tmp_path)
    settings.state_folder.mkdir()
    AppliedRecord(settings.state_folder).save_by_others()
    place = Location(target="context", context="lab", namespace="anna")
    target = ClusterTarget(Parts(settings=settings, location=place, variables={}))
    with pytest.raises(EnvironmentFailure, match="others deployed") as caught:
        run_steps(
            target.prepare(), KeptConsole()
        )  # It would ask the cluster next, and there is none.
    assert "tilt up" in caught.value.hint
