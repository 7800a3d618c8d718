"""What the stand-in image takes over from this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian import images
from tests.cluster.debian.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Answers(Commands):
    """Commands whose only program is pip."""

    def __init__(self, listed: str) -> None:
        super().__init__()
        self._listed = listed

    def run(
        self,
        *arguments: str | Path,
        folder: Path | None = None,  # noqa: ARG002 - as the real one
        environment: Mapping[str, str] | None = None,  # noqa: ARG002 - as the real one
        given: str = "",  # noqa: ARG002 - as the real one
    ) -> str:
        assert arguments[1:] == ("-m", "pip", "config", "list")
        return self._listed


@pytest.fixture(autouse=True)
def no_settings_of_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in images.CARRIED_OF_UV:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "address",
    [
        "file:///srv/packages",
        "https://user:password@index.test/simple",
        "https://one.test/simple https://user:password@index.test/simple",
    ],
)
def test_what_is_good_only_here_or_secret_stays_behind(address: str) -> None:
    assert images.index_settings(Answers(f"global.extra-index-url='{address}'\n")) == {}
