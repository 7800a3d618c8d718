"""What an author should know of the files, although nothing is broken.

- A file that was saved yields no DAG, and nothing imports it: why.
- Two files define the same DAG.
- Airflow warns of values that change with each parse.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from windsock.events import FileWarning
from windsock.runtime.processor.outside import installed_folders
from windsock.runtime.processor.reasons import imported_words, no_dag
from windsock.runtime.processor.texts import storable
from windsock.runtime.store import is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from windsock.events import Parsed
    from windsock.runtime.processor.listing import Listing

Reason = tuple[int | None, str]
"""A line, if there is one, and a sentence."""

Found = TypeVar("Found")

VARYING = re.compile(r"Line (?P<line>\d+), Col \d+\nCode: (?P<code>.*)\nIssue: (?P<issue>.*)")
"""A line of Airflow's warning; see airflow/utils/dag_version_inflation_checker.py."""

REMEDY = "with each parse the DAG gets a new version. Give it a fixed value"


class Remarks:
    """The warnings that stand now."""

    def __init__(self) -> None:
        self.told: tuple[FileWarning, ...] = ()
        self._saved: set[str] = set()
        self._fresh: set[str] = set()
        self._of_airflow: dict[str, tuple[FileWarning, ...]] = {}
        self._reasons: dict[str, tuple[Parsed, Reason]] = {}
        self._words: dict[str, tuple[Parsed, dict[bytes, set[bytes]]]] = {}

    def note_save(self, paths: Iterable[str]) -> None:
        """Note what a save has changed; what was there at the first parse is not asked about."""
        files = {path for path in paths if _may_be_dag_file(path)}
        self._saved |= files
        self._fresh |= files

    def note_parse(self, file: str, warnings: Sequence[Any]) -> None:
        """Take the warnings that Airflow made of a parse: objects, or dicts of their fields."""
        texts = [
            str(each["message"] if isinstance(each, dict) else each.message) for each in warnings
        ]
        found = (match for text in texts for match in VARYING.finditer(text))
        warned = {
            int(match["line"]): FileWarning(
                file=file,
                line=int(match["line"]),
                message=storable(f"{match['issue']}: `{match['code']}`; {REMEDY}"),
            )
            for match in found
        }
        self._of_airflow[file] = tuple(warned.values())

    def tell(
        self, folder: Path, listing: Listing, parses: Mapping[str, Parsed]
    ) -> tuple[FileWarning, ...]:
        """All warnings, now that everything is parsed.

        Args:
            folder: The snapshot.
            listing: What was found in it.
            parses: File → its last parse.

        Returns:
            In the order of their files; `news` are those that were not told, or whose file was
            saved again.
        """
        by_file: tuple[dict[str, Any], ...] = (self._of_airflow, self._reasons, self._words)
        for known in by_file:
            for file in known.keys() - parses.keys():
                del known[file]
        standing = [
            *(each for own in self._of_airflow.values() for each in own),
            *_duplicates(parses),
            *self._without_dag(folder, listing, parses),
        ]
        before = {replace(each, news=False) for each in self.told}
        self.told = tuple(
            replace(each, news=each not in before or each.file in self._fresh)
            for each in sorted(standing, key=lambda each: (each.file, each.line or 0))
        )
        self._fresh.clear()
        return self.told

    def _without_dag(
        self, folder: Path, listing: Listing, parses: Mapping[str, Parsed]
    ) -> Iterator[FileWarning]:
        self._saved = {file for file in self._saved if is_file(folder / file)}
        silent = {
            file
            for file in self._saved
            if not (file in parses and (parses[file].dags or parses[file].errors))
        }
        if silent:
            silent = silent.difference(*({*parse.used} - {name} for name, parse in parses.items()))
        if not silent:
            return
        imported = self._imported_words(folder, parses)
        for file in sorted(silent):
            if PurePosixPath(file).stem.encode() not in imported:
                line, message = self._reason(folder, file, listing, parses)
                if message:
                    yield FileWarning(file=file, line=line, message=message)

    def _reason(
        self, folder: Path, file: str, listing: Listing, parses: Mapping[str, Parsed]
    ) -> Reason:
        """Why a file yields no DAG; an empty sentence if that is not known."""
        if reason := listing.why_not(file):
            return None, f"no DAG is looked for in it: {reason}"
        if file not in parses:
            return None, ""
        if not file.endswith(".py"):
            return None, "no .py file at the top of the archive makes a DAG"
        return _of_source(no_dag, self._reasons, folder, parses[file]) or (None, "")

    def _imported_words(self, folder: Path, parses: Mapping[str, Parsed]) -> set[bytes]:
        """The words of all imports of DAG files; some only run with a task: no parse uses them.

        What is installed is no file of the folder: Python finds it first. What is not at the top of
        the folder may be deeper, by a path that the DAG file adds: then the first word names it.
        """
        by_first: dict[bytes, set[bytes]] = {}
        for parse in parses.values():
            found = _of_source(imported_words, self._words, folder, parse) or {}
            for first, words in found.items():
                by_first.setdefault(first, set()).update(words)
        return set().union(
            *(
                words if _is_here(folder, first) else {first}
                for first, words in by_first.items()
                if not _is_installed(first.decode(errors="replace"))
            )
        )


def _is_here(folder: Path, first: bytes) -> bool:
    """Whether an import begins in the folder: `dags` is the folder itself, nothing is relative."""
    name = first.decode(errors="replace")
    here = folder.joinpath(name).is_dir() or is_file(folder / f"{name}.py")
    return here or name in {"", "dags"}


@cache
def _is_installed(name: str) -> bool:
    """Whether a module comes from Python or a package: `airflow`, in every DAG file."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # Nothing, or what is no name.
        return False
    if found is None:
        return False
    place = found.origin or next(iter(found.submodule_search_locations or ()), "")
    return place in {"built-in", "frozen"} or place.startswith(installed_folders())


def _of_source(
    read: Callable[[bytes], Found],
    known: dict[str, tuple[Parsed, Found]],
    folder: Path,
    parse: Parsed,
) -> Found | None:
    """What is to be read in a file's source, once for each of its parses; None if it is gone."""
    if parse.file in known and known[parse.file][0] is parse:
        return known[parse.file][1]
    try:
        found = read(folder.joinpath(parse.file).read_bytes())
    except OSError:
        return None
    known[parse.file] = parse, found
    return found


def _may_be_dag_file(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in {".py", ".zip"} and name.name != "__init__.py"


def _duplicates(parses: Mapping[str, Parsed]) -> Iterator[FileWarning]:
    dag_ids = [dag_id for parse in parses.values() for dag_id in parse.dags]
    if len(set(dag_ids)) == len(dag_ids):
        return
    owners: dict[str, list[str]] = {}
    for file, parse in parses.items():
        for dag_id in parse.dags:
            owners.setdefault(dag_id, []).append(file)
    for dag_id, files in owners.items():
        if len(files) > 1:
            *others, last = sorted(files)
            yield FileWarning(
                file=last,
                message=f"DAG {dag_id!r} is also defined in {', '.join(others)}: Airflow shows the "
                "one that it has parsed last. Give one of them another dag_id",
            )
