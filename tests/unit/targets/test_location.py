from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.errors import EnvironmentFailure
from windsock.targets.location import FILE, Location

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Location(target="context", context="lab", namespace="anna")


def test_what_is_saved_is_found_again_until_it_is_forgotten(tmp_path: Path) -> None:
    assert Location.load(tmp_path) is None
    PLACE.save(tmp_path)
    assert Location.load(tmp_path) == PLACE
    Location.remove(tmp_path)
    Location.remove(tmp_path)
    assert Location.load(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"target": "kind", "more": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(EnvironmentFailure, match=FILE):
        Location.load(tmp_path)
