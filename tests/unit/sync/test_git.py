from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from windsock.sync.git import LOCK_SECONDS, is_at_work

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A. U. Thor", "-c", "user.email=author@example.invalid"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "begin")
    return folder


def test_a_folder_without_a_repository_is_at_rest(tmp_path: Path) -> None:
    assert not is_at_work(tmp_path)


@pytest.mark.parametrize("further", [False, True])
def test_git_is_at_work_while_it_has_its_lock(repository: Path, further: bool) -> None:
    tree = repository
    if further:
        tree = repository.parent / "further"
        git(repository, "worktree", "add", "-q", str(tree))
    dags = tree / "team" / "dags"
    dags.mkdir(parents=True)
    lock = tree / git(tree, "rev-parse", "--git-path", "index.lock")
    assert not is_at_work(dags)
    lock.touch()
    assert is_at_work(dags)
    lock.unlink()
    assert not is_at_work(dags)


def test_an_old_lock_means_nothing(repository: Path) -> None:
    lock = repository / ".git/index.lock"
    lock.touch()
    changed = lock.stat().st_mtime
    assert is_at_work(repository, clock=lambda: changed + LOCK_SECONDS - 1)
    assert not is_at_work(repository, clock=lambda: changed + LOCK_SECONDS)


@pytest.mark.parametrize("content", [b"", b"gitdir: gone\n", b"\xff\xfe", b"gitdir: ../gone"])
def test_a_git_file_that_leads_nowhere_means_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".git").write_bytes(content)
    assert not is_at_work(tmp_path)
