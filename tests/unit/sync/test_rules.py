from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock.errors import ConfigurationError
from windsock.sync.rules import DEFAULTS, Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "deep/.git/HEAD",
        "sub/__pycache__/a.cpython-311.pyc",
        "a.pyc",
        ".sales.py.swp",
        "sales.py~",
        ".#sales.py",
        "#sales.py#",
        "sub/4913",
        "sales.py.tmp",
        "sales.py___jb_tmp___",
        ".DS_Store",
        ".idea/workspace.xml",
        ".windsock/state.json",
        ".windsockignore",
        ".stignore",
    ],
)
def test_what_tools_leave_behind_stays_behind(path: str) -> None:
    assert Rules().ignores_below(path)


@pytest.mark.parametrize(
    "path",
    [".airflowignore", "sales.py", "a/b/c.sql", "git/x.py", "etl.tmpl", "sub/.windsockignore"],
)
def test_what_a_dag_author_writes_travels(path: str) -> None:
    assert not Rules().ignores_below(path)


def test_a_folder_that_is_ignored_is_ignored_as_a_folder_only() -> None:
    rules = Rules((*DEFAULTS, "data/"))
    assert rules.ignores("data", is_directory=True)
    assert not rules.ignores("data", is_directory=False)


def test_later_patterns_take_earlier_ones_back(tmp_path: Path) -> None:
    (tmp_path / ".windsockignore").write_text("*.csv\n!keep.csv\n!.idea/\n")
    rules = Rules.load(tmp_path)
    assert rules.ignores("a.csv", is_directory=False)
    assert not rules.ignores("sub/keep.csv", is_directory=False)
    assert not rules.ignores(".idea", is_directory=True)


def test_no_ignore_file_means_the_defaults(tmp_path: Path) -> None:
    assert Rules.load(tmp_path) == Rules()
    assert Rules.load(tmp_path / "missing") == Rules()


def test_rules_are_loaded_again_only_if_the_file_changed(tmp_path: Path) -> None:
    path = tmp_path / ".windsockignore"
    path.write_text("a\n")
    first = Rules.load(tmp_path)
    assert Rules.load(tmp_path, known=first) is first
    path.write_text("b\n")
    assert Rules.load(tmp_path, known=first).ignores("b", is_directory=False)


@pytest.mark.parametrize(
    "text",
    [
        *(b"ok\n!\n", b"ok\n\xff\xfe.csv\n", b"ok\r\nhelpers\\\r\n", b"ok\n[z-a]\n", b"ok\r\0\n"),
        *("ok\n!\n".encode(encoding) for encoding in ("utf-8-sig", "utf-16", "utf-32")),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ".windsockignore").write_bytes(text)
    with pytest.raises(ConfigurationError, match="line 2"):
        Rules.load(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_rules_may_be_in_any_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / ".windsockignore").write_bytes("# é\r\n*.csv\r\n\r\né/\r\n".encode(encoding))
    rules = Rules.load(tmp_path)
    assert rules.ignores("a.csv", is_directory=False)
    assert rules.ignores("é", is_directory=True)
    assert rules.own_line("a.csv", is_directory=False) == "*.csv"
    assert rules.own_line(".git", is_directory=True) == ""


def test_an_ignore_file_that_is_no_file_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".windsockignore")
    with pytest.raises(ConfigurationError, match="cannot be read: it is no file"):
        Rules.load(tmp_path)


def test_an_ignore_file_without_an_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".windsockignore").symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match="cannot be read: it is larger than 16 MiB"):
        Rules.load(tmp_path)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=20))
def test_any_bytes_are_rules_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / ".windsockignore").write_bytes(content)
    with contextlib.suppress(ConfigurationError):
        Rules.load(folder).ignores("a/b.py", is_directory=False)


def test_an_ignore_file_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".windsockignore").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Rules.load(tmp_path)


NAMES = st.sampled_from(["a", "b", "ab", "a.py", "b.csv", "data", ".x"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "!"]),
    st.sampled_from(["", "/", "**/"]),
    st.sampled_from(["a", "*", "*.py", "a*", "data", "?", "a/b", "[ab]", "data/*", "a/**", ".*"]),
    st.sampled_from(["", "/"]),
).filter(lambda pattern: not pattern.endswith("**/"))  # pathspec takes `a/**/` for `a/`


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git")
@settings(max_examples=60, deadline=None)
@given(patterns=st.lists(PATTERNS, min_size=1, max_size=4), paths=st.lists(PATHS, min_size=1))
def test_files_are_ignored_as_git_ignores_them(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], paths: list[str]
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(repository)}
    subprocess.run(["git", "init", "-q", repository], check=True, env=environment)  # noqa: S607 - git from PATH
    (repository / ".gitignore").write_text("\n".join(patterns) + "\n")
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],  # noqa: S607 - git from PATH
        cwd=repository,
        env=environment,
        input="\0".join(paths).encode(),
        capture_output=True,
        check=False,
    )
    ignored = set(answer.stdout.decode().rstrip("\0").split("\0"))
    rules = Rules(tuple(patterns))
    assert {path for path in paths if rules.ignores_below(path)} == ignored - {""}
