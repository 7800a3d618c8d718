"""What the stand-in image takes over from this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian import images
from tests.cluster.debian.commands import Commands
from tests.cluster.debian.packages import missing

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


def test_an_index_in_the_network_is_carried_over() -> None:
    listed = "global.index-url='https://index.test/simple'\n:env:.default-timeout='60'\n"
    assert images.index_settings(Answers(listed)) == {
        "PIP_INDEX_URL": "https://index.test/simple",
        "PIP_DEFAULT_TIMEOUT": "60",
    }


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


def test_what_an_image_has_no_use_for_stays_behind() -> None:
    listed = "global.find-links='/opt/wheels'\nglobal.cert='/etc/ssl/certs/ca.crt'\n"
    assert images.index_settings(Answers(listed)) == {}


def test_the_index_of_uv_is_carried_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "ours=https://index.test/simple")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://token@index.test/simple")
    assert images.index_settings(Answers("")) == {"UV_INDEX": "ours=https://index.test/simple"}


def test_only_the_packages_of_absent_programs_are_installed() -> None:
    needed = {"sh": "dash", "no-such-program": "one two", "nor-this": "two"}
    assert missing(needed) == ["one", "two"]
