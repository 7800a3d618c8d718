"""The folders are checked before anything starts: each mistake is one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.config import load
from windsock.errors import ConfigurationError
from windsock.targets.folder import check_folders

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.config import Settings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for name in ("dags", "include", "Shared"):
        (project / name).mkdir(parents=True)
    return project


def settings(project: Path, **folders: str) -> Settings:
    named = {folder: name for name, folder in folders.items()}
    return load({"state": "state", "sync": {"folders": named}}, project=project)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("inclde", "include"), ("../project/shared", "Shared"), ("../projct/include", "include")],
)
def test_a_folder_that_is_not_there_is_an_error_with_the_nearest_name(
    project: Path, typed: str, meant: str
) -> None:
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        check_folders(settings(project, mine=typed))
    assert str(project / meant) in caught.value.message
    assert caught.value.exit_code == 2


def test_a_folder_that_resembles_nothing_offers_nothing(project: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"elsewhere does not exist\n"):
        check_folders(settings(project, mine="elsewhere"))


def test_a_file_is_no_folder(project: Path) -> None:
    (project / "notes").write_text("")
    with pytest.raises(ConfigurationError, match="is no folder"):
        check_folders(settings(project, mine="notes"))


@pytest.mark.parametrize("folder", ["dags", "include"])
def test_rules_that_cannot_be_read_are_told_before_anything_starts(
    project: Path, folder: str
) -> None:
    check_folders(settings(project, mine="include"))
    (project / folder / ".windsockignore").write_bytes(b"*.csv\n\xff\n")
    with pytest.raises(ConfigurationError, match=r"\.windsockignore, line 2 is no pattern"):
        check_folders(settings(project, mine="include"))


def test_a_link_stays_a_link_and_its_path_is_short(project: Path) -> None:
    (project / "link").symlink_to("include")
    (project / "deep").symlink_to("/usr/lib")
    found = settings(project, a="../project/link", b="deep/../include").further_folders
    assert found["a"] == project / "link"
    assert found["b"] == project / "deep/../include"  # It is /usr/include.
