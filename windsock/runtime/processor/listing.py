"""The DAG files of a folder, whatever else stands in it.

Airflow's own search ends with an exception at one link or one line of an `.airflowignore` that it
does not like, and its dag-processor with it. This search has Airflow's rules, goes on, and says
for each such path what is the matter. It also knows why a file is not taken for a DAG file.
"""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.runtime.store import is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

IGNORE_FILE = ".airflowignore"
LARGEST_BYTES = 16 * 1024 * 1024
"""A larger `.py` file is not read: Airflow reads and parses all of it in its dag-processor."""

WITHOUT_US = "Without windsock, Airflow's dag-processor would end here."


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A line of an `.airflowignore`.

    Attributes:
        rule: As Airflow has compiled it; None if it means nothing.
        file: The ignore file, relative to the folder that is searched.
        line: Counted from 1.
    """

    rule: Any
    file: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a search has found; all paths are relative to the folder.

    Attributes:
        files: The DAG files.
        problems: Path → what keeps Airflow from searching it or below it, and what to do. The text
            has the form of an import error.
        left_out: `.py` file or ignored folder → why no DAG is looked for in it.
    """

    files: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def why_not(self, path: str) -> str:
        """Why a file is not taken for a DAG file; empty if it is one, or that is not known."""
        parts = path.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((self.left_out[each] for each in above if each in self.left_out), "")


class DagFiles:
    """Searches one folder after the other, and remembers what it has read.

    Args:
        syntax: `glob` or `regexp`, as `[core] dag_ignore_file_syntax` has it.
        safe_mode: Whether a DAG file must have Airflow's words in it.
    """

    def __init__(self, *, syntax: str, safe_mode: bool) -> None:
        self.syntax = syntax
        self._safe_mode = safe_mode
        self._good_lines: dict[str, dict[int, str]] = {}
        self._verdicts: dict[object, str | None] = {}

    def search(
        self,
        folder: Path,
        *,
        skip: Collection[str] = (),
        identity: Callable[[str], object | None] = lambda _: None,
    ) -> Listing:
        """Find the DAG files below a folder. Raises nothing: what is wrong is a problem.

        Args:
            folder: A real path.
            skip: Names in it that hold no DAGs.
            identity: Names the content of a path, so that a file is read once; None if unknown.
        """
        return _Search(folder, self, set(skip), identity).run()

    def rules_of(self, folder: Path, name: str) -> tuple[list[Rule], str]:
        """The rules of an ignore file, and what is wrong with it.

        The lines of a broken file stay as they were before it broke. If it never was whole, its
        good lines count.

        Args:
            folder: That is searched.
            name: The ignore file, relative to it.
        """
        rules: dict[int, Rule] = {}
        lines: dict[int, str] = {}
        problem = ""
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            content, problem = b"", f"it cannot be read: {error.strerror}. {WITHOUT_US}"
        for number, raw in enumerate(re.split(rb"\r\n?|\n", content), start=1):
            try:
                lines[number] = line = _line(raw, number)
                rules[number] = self._rule(line, folder, name, number)
            except Exception as error:  # noqa: BLE001 - whatever a pattern does to Airflow
                problem = problem or _bad_line(folder / name, number, raw, error)
        if not problem:
            self._good_lines[name] = lines
        elif name in self._good_lines:
            good = self._good_lines[name].items()
            rules = {number: self._rule(line, folder, name, number) for number, line in good}
        return [rule for rule in rules.values() if rule.rule is not None], problem

    def _rule(self, line: str, folder: Path, name: str, number: int) -> Rule:
        """A line as a rule; raises whatever Airflow raises."""
        rule = None
        if self.syntax == "regexp":
            re.compile(line)  # Airflow would only log that it is none.
        if line:
            rule = _rule_type(self.syntax).compile(line, folder, folder / name)
        return Rule(rule=rule, file=name, line=number)

    def ignoring(self, name: str, rules: Sequence[Rule]) -> str:
        """Which line makes Airflow ignore a path; empty if none does."""
        if not rules:
            return ""
        kind, path = _rule_type(self.syntax), Path(name)
        if not kind.match(path, [each.rule for each in rules]):
            return ""
        last = next(each for each in reversed(rules) if kind.match(path, [each.rule]))
        return f"it is ignored by line {last.line} of {last.file}"

    def judge(self, name: str, identity: object | None) -> str | None:
        """Why a file is no DAG file; empty if it is one; None if nobody would take it for one.

        Raises:
            Exception: Whatever reading it raises, or Airflow's own check of its content.
        """
        if identity is None:
            return self._read(Path(name))
        # No `Path` for what is known: at each save there are as many as files.
        key = (name.rpartition("/")[2], identity)
        if key not in self._verdicts:
            self._verdicts[key] = self._read(Path(name))
        return self._verdicts[key]

    def _read(self, path: Path) -> str | None:
        from airflow.utils.file import might_contain_dag  # noqa: PLC0415 - only Airflow has it

        if path.suffix != ".py":
            if zipfile.is_zipfile(path):
                return ""
            if path.suffix.lower() == ".zip":
                return "it is no zip archive"
            if path.suffix.lower() != ".py":
                return None
            return f"it ends in {path.suffix}: Airflow takes only .py, in small letters"
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it is larger than {LARGEST_BYTES // 1024**2} MiB")
        if might_contain_dag(str(path), self._safe_mode):
            return ""
        return (
            'it does not have the words "airflow" and "dag" in it, by which Airflow finds DAG files'
            " ([core] dag_discovery_safe_mode). A comment with both is enough: # airflow dag"
        )


class _Search:
    """One search of one folder."""

    def __init__(
        self,
        folder: Path,
        known: DagFiles,
        skip: set[str],
        identity: Callable[[str], object | None],
    ) -> None:
        self._folder = folder
        self._skip = skip
        self._known = known
        self._identity = identity
        self._files: list[str] = []
        self._problems: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        """Real path of a folder → by which path it was met first."""

    def run(self) -> Listing:
        # A folder counts where it really is. Links wait until all of those are known.
        waiting = list(self._walk("", []))
        while waiting:
            waiting += self._walk(*waiting.pop(0))
        return Listing(
            files=tuple(sorted(self._files)), problems=self._problems, left_out=self._left_out
        )

    def _walk(self, top: str, rules: list[Rule]) -> Iterator[tuple[str, list[Rule]]]:
        """Search a folder and all real ones below it; yields the links to folders."""
        waiting = [(top, rules)]
        while waiting:
            name, rules = waiting.pop()
            if not self._is_new(name):
                continue
            try:
                with os.scandir(self._folder / name) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if name:  # Before the first snapshot there is no folder.
                    self._problems[name] = f"it cannot be searched: {error.strerror}"
                continue
            rules = rules + self._own_rules(name)
            for entry in found:
                path = f"{name}/{entry.name}" if name else entry.name
                if path in self._skip or not self._take(entry, path, rules):
                    continue
                if entry.is_symlink():
                    yield path, rules
                else:
                    waiting.append((path, rules))

    def _is_new(self, name: str) -> bool:
        """Whether a folder has not been searched by another path; else that is a problem."""
        first = self._seen.setdefault(os.path.realpath(self._folder / name), name)
        if first == name:
            return True
        self._problems[name] = (
            f"a link leads to {first or 'the DAG folder itself'}, which the search for DAG files "
            f"has seen already. It does not look here again; imports by this path work.\n"
            f"{WITHOUT_US} Add a line `/{name}` to {IGNORE_FILE}."
        )
        return False

    def _own_rules(self, name: str) -> list[Rule]:
        """The rules of a folder's own ignore file."""
        file = f"{name}/{IGNORE_FILE}" if name else IGNORE_FILE
        if not is_file(self._folder / file):
            return []
        rules, problem = self._known.rules_of(self._folder, file)
        if problem:
            self._problems[file] = problem
        return rules

    def _take(self, entry: os.DirEntry[str], path: str, rules: Sequence[Rule]) -> bool:
        """Take a path if it is a DAG file; returns whether it is a folder to search."""
        is_folder = False
        try:
            path.encode()  # What is not UTF-8 cannot be stored.
            with contextlib.suppress(OSError):  # A link that leads to itself.
                is_folder = entry.is_dir()
            if entry.name == IGNORE_FILE and not is_folder:
                return False
            ignored = self._known.ignoring(entry.path, rules)
            if ignored or is_folder:
                if ignored and (is_folder or path.lower().endswith(".py")):
                    self._left_out[path] = ignored
                return not ignored
            verdict = None
            if entry.is_file():
                verdict = self._known.judge(entry.path, self._identity(path))
        except Exception as error:  # noqa: BLE001 - of one path, whatever it is
            if is_folder or path.lower().endswith((".py", ".zip")):
                self._problems[_printable(path)] = _reason(error)
            return False
        if verdict:
            self._left_out[path] = verdict
        elif verdict is not None:
            self._files.append(path)
        return False


def names_inside(path: Path, name: Path) -> list[str]:
    """The files in a zip, as Airflow names them; none if it is no zip that can be read."""
    if path.suffix == ".py":
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return [f"{name}/{inner}" for inner in archive.namelist()]
    except Exception:  # noqa: BLE001 - whatever somebody calls a zip
        return []


def _rule_type(syntax: str) -> Any:
    """Airflow's class of a rule; it is private."""
    from airflow._shared.module_loading import file_discovery  # noqa: PLC0415 - only Airflow has it

    name = "_RegexpIgnoreRule" if syntax == "regexp" else "_GlobIgnoreRule"
    return getattr(file_discovery, name)


def missing_rules() -> list[str]:
    """What this Airflow lacks of the rules of an `.airflowignore`; empty if they work."""
    folder = Path(os.sep)
    try:
        for syntax in ("glob", "regexp"):
            kind = _rule_type(syntax)
            rule = kind.compile("a", folder, folder / IGNORE_FILE)
            if not kind.match(folder / "a", [rule]):
                return [f"{syntax} rules of {IGNORE_FILE}"]
    except Exception as error:  # noqa: BLE001 - however another Airflow differs
        return [f"rules of {IGNORE_FILE} ({error})"]
    return []


class MatchesNothing(ValueError):
    """A line that Airflow takes, but that cannot mean what its author wanted."""


def _line(raw: bytes, number: int) -> str:
    """A line as Airflow reads it: without its comment."""
    if b"\0" in raw:
        raise MatchesNothing("it is not UTF-8 (UTF-16?)")
    line = re.sub(r"\s*#.*", "", raw.decode("utf-8"))
    if number == 1 and line.startswith("\ufeff"):
        raise MatchesNothing("it begins with a byte order mark")
    return line


def _bad_line(path: Path, number: int, raw: bytes, error: Exception) -> str:
    """What is wrong with a line, in the form of a syntax error."""
    text = raw.decode("utf-8", "backslashreplace").replace("\0", "").strip()
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    ends = "" if isinstance(error, MatchesNothing | re.error) else f" {WITHOUT_US}"
    return (
        f'  File "{path}", line {number}\n    {text[:200]}\n'
        f"no pattern that Airflow can use: {reason}\n"
        f"The rules of this file stay as they were.{ends}"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "its name is not UTF-8, so Airflow cannot store it"
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or error}"
    return f"it cannot be looked at: {type(error).__name__}: {error}"


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
