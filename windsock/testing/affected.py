"""Which tests a change can affect: `pytest --affected REF`.

Git names the files that differ from a ref, committed or not, and the untracked ones. The
dag-processor has recorded which files each DAG file used when it was parsed. A task may import a
module only when it runs, which no record shows: so a Python file that names a changed module counts
as its user, too. The source of a test names its DAGs.

In doubt a test runs: a changed file that no DAG file is known to use affects every test, and every
change affects a test whose DAGs are unknown.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.testing.uses import dags_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pytest

_PROSE = frozenset({".md", ".rst"})
_PROSE_NAMES = frozenset({"LICENSE", "NOTICE", ".gitignore", ".gitattributes", ".editorconfig"})
"""Outside the DAG folder these change no test's outcome; everything else might."""
_DYNAMIC = frozenset({"importlib", "runpy", "pkgutil", "__import__", "exec", "eval"})
"""A Python file with one of these words may import every other file."""
_GIT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the choice is made of; plain values, which xdist hands to the processes of a session.

    Attributes:
        changed: The files that differ from the ref, resolved.
        notes: A sentence for each folder whose changes cannot be seen.
        dags: DAG id → its file, relative to the DAG folder, of every DAG that Airflow lists.
        broken: Files that do not import at present, relative to the DAG folder.
        used: DAG file → what it used when it was parsed, as the event `parsed` names it.
        dags_folder: The DAG folder, resolved.
    """

    changed: list[str]
    notes: list[str]
    dags: dict[str, str | None]
    broken: list[str]
    used: dict[str, list[str]]
    dags_folder: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The tests that run, those left out, and the reasons in a line each."""

    chosen: list[pytest.Item]
    left_out: list[pytest.Item]
    summary: list[str]


def select(items: Sequence[pytest.Item], *, reference: str, known: Known) -> Selection:
    """Choose the tests that the changes since a git ref can affect.

    Args:
        items: The collected tests.
        reference: Any git ref.
        known: What has changed since, and what the DAGs use.
    """
    changed = {Path(path) for path in known.changed}
    dags, broken = known.dags, known.broken
    tests = {item: item.path.resolve() for item in items}
    users = _Users(Path(known.dags_folder), dags=dags, used=known.used)
    affected, reason = _affected(changed, tests=tests.values(), users=users)
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    unknown = 0
    for item, path in tests.items():
        ids = dags_of(item)
        # An id that Airflow does not list: its file may be broken, renamed or deleted.
        in_doubt = ids is None or not ids <= dags.keys() or any(dags[i] in broken for i in ids)
        hit = path in changed or bool(ids and ids & affected)
        moved = bool(changed) and in_doubt
        if reason or hit or moved:
            chosen.append(item)
            unknown += moved and not hit
        else:
            left_out.append(item)
    lines = [
        *known.notes,
        f"windsock: {len(chosen)} of {len(items)} tests may be affected since {reference}",
    ]
    if reason:
        lines.append(f"  every test: {reason}")
    else:
        if affected:
            lines.append(f"  affected DAGs: {', '.join(sorted(affected))}")
        if unknown:
            lines.append(f"  {unknown} of them in doubt: which DAGs they use is unknown")
    return Selection(chosen=chosen, left_out=left_out, summary=lines)


def _affected(
    changed: Collection[Path], *, tests: Collection[Path], users: _Users
) -> tuple[set[str], str]:
    """The ids of affected DAGs, and why every test is affected; that is empty if not."""
    affected: set[str] = set()
    for path in sorted(changed):
        if path.is_relative_to(users.folder):
            file = path.relative_to(users.folder).as_posix()
            dags = users.dags_of(file)
            if not dags:
                return set(), f"no DAG is known to use {file}, which changed"
            affected |= dags
        elif path not in tests and not _without_effect(path):
            return set(), f"{path.name} changed, which may affect any of them"
    return affected, ""


class _Users:
    """Which files of a DAG folder use which. A DAG file without a record may use every file."""

    def __init__(
        self,
        folder: Path,
        *,
        dags: Mapping[str, str | None],
        used: Mapping[str, Collection[str]],
    ) -> None:
        self.folder = folder
        self._dags = dags
        self._used = {file: frozenset(paths) for file, paths in used.items() if paths}
        self._unknown = {file for file in dags.values() if file and file not in self._used}

    @functools.cached_property
    def _texts(self) -> dict[str, str]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_text("utf-8", errors="replace")
            for path in self.folder.rglob("*.py")
            if path.is_file()
        }

    def dags_of(self, file: str) -> set[str]:
        """The DAGs that use a file, directly or through other files; empty if none is known."""
        found, pending = {file}, [file]
        # A task may read another file than Python under a name that it computes.
        if not file.endswith(".py") and not self._recorded(file):
            pending = []
        while pending:
            used = pending.pop()
            users = (self._recorded(used) | self._naming(used) | self._unknown) - found
            found |= users
            pending += users
        return {dag_id for dag_id, own in self._dags.items() if own in found}

    def _recorded(self, file: str) -> set[str]:
        # A DAG file that lists a folder uses whatever is in it.
        wanted = {file, *(f"{parent}/" for parent in PurePosixPath(file).parents)}
        return {user for user, paths in self._used.items() if not wanted.isdisjoint(paths)}

    def _naming(self, file: str) -> set[str]:
        """The Python files that name a file, or a DAG in it: they trigger it, or wait for it."""
        path = PurePosixPath(file)
        name = _words(path.parent.name if path.stem == "__init__" else path.stem)
        dags = [dag_id for dag_id, own in self._dags.items() if own == file]
        quoted = [f"{quote}{dag_id}{quote}" for dag_id in dags for quote in ("'", '"')]
        return {
            user
            for user, text in self._texts.items()
            if name <= (words := _words(text))
            or words & _DYNAMIC
            or any(each in text for each in quoted)
        }


@functools.cache
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def _without_effect(path: Path) -> bool:
    """Whether a changed file outside the DAG folder cannot change the outcome of a test.

    Prose cannot; nor can a test module that is not collected, since tests do not import each other.
    """
    return (
        path.suffix in _PROSE
        or path.name in _PROSE_NAMES
        or (path.suffix == ".py" and (path.name.startswith("test_") or path.stem.endswith("_test")))
    )


def changes(
    reference: str, *, folders: Mapping[Path, str], others: Iterable[Path]
) -> tuple[set[Path], list[str]]:
    """The files that differ from a git ref in the repositories of some folders, resolved.

    These are committed, staged, unstaged, untracked and deleted files. What git ignores is not
    seen.

    Args:
        reference: Any git ref.
        folders: Folder → what it is: the tests and the DAGs, in one repository or in several.
        others: What affects every test: the project and the further folders. They may be in no
            repository, or in one without this ref.

    Returns:
        The files, and a sentence for each of `others` in which what has changed cannot be seen.

    Raises:
        ConfigurationError: A folder is in no git repository, or the ref is unknown there.
        EnvironmentFailure: git failed.
    """
    if reference.startswith("-"):
        raise ConfigurationError(
            f"{reference!r} is no git ref", "Give a branch, a tag or a commit."
        )
    commits: dict[Path, str] = {}
    for folder, what in folders.items():
        top = _top(folder, what)
        commits[top] = commits.get(top) or _commit(top, reference)
    notes: list[str] = []
    for folder in others:
        try:
            top = _top(folder)
            commits[top] = commits.get(top) or _commit(top, reference)
        except ConfigurationError as error:
            notes.append(f"windsock: changes in {folder} are not seen: {error.message}")
    return {path for top, commit in commits.items() for path in _differing(top, commit)}, notes


def _top(folder: Path, what: str = "") -> Path:
    """The repository of a folder."""
    try:
        return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")))
    except ConfigurationError as error:
        message = f"{what}: {error.message}" if what else error.message
        raise ConfigurationError(message, error.hint) from None


def _commit(top: Path, reference: str) -> str:
    found = _git(top, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    return found.decode().strip()


def _differing(top: Path, commit: str) -> set[Path]:
    """The files of a repository that differ from a commit."""
    options = ("--name-only", "--no-renames", "--no-ext-diff", "-z")
    differing = _git(top, "diff", *options, commit, "--")
    untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    paths = [top / os.fsdecode(name) for name in (differing + untracked).split(b"\0") if name]
    # Not the path itself: a link that changed is the change.
    return {path.parent.resolve() / path.name for path in paths}


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
            f"git cannot be run: {error}", "Install git, or run without --affected."
        ) from error
    if done.returncode == 0:
        return done.stdout
    answer = done.stderr.decode(errors="replace").strip()
    if arguments[:2] == ("rev-parse", "--verify"):
        name = arguments[-1].removesuffix("^{commit}")
        raise ConfigurationError(
            f"git knows no ref {name!r} in {folder}", "`git branch --all` lists what it knows."
        )
    if arguments[0] == "rev-parse":
        raise ConfigurationError(
            f"{folder} is in no git repository: {answer}", "Run without --affected."
        )
    raise EnvironmentFailure(f"git {arguments[0]} failed in {folder}: {answer}")
