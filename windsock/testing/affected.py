"""Which tests a change can affect: `pytest --affected REF`.

From git come the files that differ from a ref, committed or not, and the untracked ones; from the
import graph the DAG files they reach; from the tests the DAGs they use. In doubt a test runs: a
changed file that nobody can attribute (a template, a requirements file, a helper that no DAG
imports) affects every test, and a test whose DAGs cannot be told is affected by every change.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.testing import imports
from windsock.testing.uses import dags_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pytest

_PROSE = frozenset({".md", ".rst"})
_PROSE_NAMES = frozenset({"LICENSE", "NOTICE", ".gitignore", ".gitattributes", ".editorconfig"})
"""Outside the DAG folder these change no test's outcome; everything else might."""
_GIT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Impact:
    """What the changes can affect.

    Attributes:
        dags: Ids of affected DAGs.
        tests: Changed test modules.
        everything: Why every test is affected; empty if not.
    """

    dags: frozenset[str] = frozenset()
    tests: frozenset[Path] = frozenset()
    everything: str = ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The tests that run, and those left out."""

    chosen: list[pytest.Item]
    left_out: list[pytest.Item]
    reference: str
    impact: Impact
    unknown: int

    def summary(self) -> str:
        """What was chosen and why, a line each."""
        total = len(self.chosen) + len(self.left_out)
        lines = [
            f"windsock: {len(self.chosen)} of {total} tests may be affected since {self.reference}"
        ]
        if self.impact.everything:
            lines.append(f"  every test: {self.impact.everything}")
        elif self.impact.dags:
            lines.append(f"  affected DAGs: {', '.join(sorted(self.impact.dags))}")
        if self.unknown and not self.impact.everything:
            lines.append(f"  {self.unknown} of them in doubt: which DAGs they use cannot be told")
        return "\n".join(lines)


def select(
    items: Sequence[pytest.Item],
    *,
    reference: str,
    dags: Mapping[str, str | None],
    broken: Collection[str],
    dags_folder: Path,
    project: Path,
) -> Selection:
    """Choose the tests that the changes since a git ref can affect.

    Args:
        items: The collected tests.
        reference: Any git ref.
        dags: DAG id → its file, relative to the DAG folder, of every DAG that Airflow lists.
        broken: Files that do not import at present, relative to the DAG folder.
        dags_folder: The DAG folder, in this repository or in another one.
        project: The folder of the tests' project.

    Raises:
        ConfigurationError: The ref is unknown, or a folder is in no git repository.
        EnvironmentFailure: git failed.
    """
    changed = changes(reference, [project, dags_folder])
    impact = attribute(
        changed,
        dags=dags,
        dags_folder=dags_folder.resolve(),
        test_modules={item.path.resolve() for item in items},
    )
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    unknown = 0
    for item in items:
        used = dags_of(item)
        # An id that Airflow does not list: its file may be broken, renamed or deleted.
        in_doubt = used is None or not used <= dags.keys() or any(dags[i] in broken for i in used)
        hit = bool(used and used & impact.dags) or item.path.resolve() in impact.tests
        moved = bool(changed) and in_doubt
        if impact.everything or hit or moved:
            chosen.append(item)
            unknown += moved and not hit
        else:
            left_out.append(item)
    return Selection(
        chosen=chosen, left_out=left_out, reference=reference, impact=impact, unknown=unknown
    )


def attribute(
    changed: Collection[Path],
    *,
    dags: Mapping[str, str | None],
    dags_folder: Path,
    test_modules: Collection[Path],
) -> Impact:
    """What changed files can affect.

    Args:
        changed: Absolute paths; deleted files too.
        dags: DAG id → its file.
        dags_folder: Resolved.
        test_modules: The resolved files of the collected tests.
    """
    inside = {
        path: path.relative_to(dags_folder).as_posix()
        for path in changed
        if path.is_relative_to(dags_folder)
    }
    tests = frozenset(path for path in changed if path in test_modules)
    for path in sorted(set(changed) - inside.keys() - tests):
        if not _without_effect(path):
            return Impact(everything=f"{path.name} changed, which may affect any of them")
    if not inside:
        return Impact(tests=tests)
    present = imports.python_files(dags_folder)
    sources = {file: imports.read(dags_folder / file, file) for file in present}
    graph = imports.Graph(
        sources, dags=dags, gone=(file for file in inside.values() if file.endswith(".py"))
    )
    affected: set[str] = set()
    for file in sorted(inside.values()):
        reached = graph.reach(file) if file.endswith(".py") else set()
        found = {dag_id for dag_id, own in dags.items() if own in reached}
        if not found:
            return Impact(everything=f"no DAG is known to use {file}, which changed")
        affected |= found
    return Impact(dags=frozenset(affected), tests=tests)


def _without_effect(path: Path) -> bool:
    """Whether a changed file outside the DAG folder cannot change the outcome of a test.

    Prose cannot; nor can a test module that is not collected, since tests do not import each other.
    """
    return (
        path.suffix in _PROSE
        or path.name in _PROSE_NAMES
        or (path.suffix == ".py" and (path.name.startswith("test_") or path.stem.endswith("_test")))
    )


def changes(reference: str, folders: Sequence[Path]) -> set[Path]:
    """The files that differ from a git ref in the repositories of some folders.

    Returns:
        Absolute, resolved paths: committed, staged, unstaged, untracked and deleted files. What git
        ignores is not seen.

    Raises:
        ConfigurationError: The ref is unknown, or a folder is in no git repository.
        EnvironmentFailure: git failed.
    """
    if reference.startswith("-"):
        raise ConfigurationError(f"{reference!r} is no git ref")
    tops = {
        Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")))
        for folder in folders
    }
    found: set[Path] = set()
    for top in sorted(tops):
        commit = _git(top, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
        differing = _git(
            top,
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "-z",
            commit.decode().strip(),
            "--",
        )
        untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
        names = [name for name in (differing + untracked).split(b"\0") if name]
        found |= {_resolved(top / os.fsdecode(name)) for name in names}
    return found


def _resolved(path: Path) -> Path:
    """With the links above it resolved, but not itself: a changed link is the change."""
    return path.parent.resolve() / path.name


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            check=False,
            # In a git hook these point to the repository of the hook, whatever the folder.
            env={key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailure(
            f"git cannot be run: {error}", "Install git, or leave --affected out."
        ) from error
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if arguments[:2] == ("rev-parse", "--verify"):
        name = arguments[-1].removesuffix("^{commit}")
        raise ConfigurationError(
            f"git knows no ref {name!r} in {folder}", "`git branch --all` lists what it knows."
        )
    if arguments[0] == "rev-parse":
        raise ConfigurationError(
            f"{folder} is in no git repository: {said}", "Leave --affected out."
        )
    raise EnvironmentFailure(f"git {arguments[0]} failed in {folder}: {said}")
