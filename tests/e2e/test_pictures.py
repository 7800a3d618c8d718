from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev import pictures

if TYPE_CHECKING:
    from tests.e2e.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("folder")]


def test_the_readme_shows_what_a_session_prints(environment: Project) -> None:
    fresh = pictures.drawn(pictures.session(environment.home, environment.environ()))
    committed = pictures.SESSION.read_text(encoding="utf-8")
    assert pictures.words(committed) == pictures.words(fresh), "run `invoke docs.pictures`"
