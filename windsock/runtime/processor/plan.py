"""The plan of the dag-processor: which DAG files to parse, and for which snapshot.

It knows nothing of Airflow. Files are named by their paths in the bundle.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from windsock.events import Parsed, ProcessorState, Settled
from windsock.runtime.store import changed_paths, current_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

STARVED_SECONDS = 1.0
"""Seconds after which the parse of an overtaken file counts all the same. A file that is saved more
often than it can be parsed would otherwise never be seen."""

GROUP_SECONDS = 1.0
"""How long the files of one group took together the last time, at most. Of files that nobody has
parsed yet that is not known; their parser stops in time."""

GROUP_FILES = 25
"""How many files share a parser, at most."""

MANY = 8
"""From so many files on, those of one save share parsers, too."""

REST_SHARE = 0.05
"""The part of a core that parsing by the clock may use."""

STORING_SECONDS = 0.05
"""What storing a parse costs, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a new snapshot makes necessary.

    Attributes:
        files: The files to parse, the most urgent first.
        removed: Deleted file → the DAGs that it defined.
    """

    files: tuple[str, ...]
    removed: Mapping[str, tuple[str, ...]]


class ParsePlan:
    """What has been parsed, what each parse used, and what must be parsed again.

    Args:
        store: The snapshot store.
        clock: Monotonic seconds.

    Attributes:
        snapshot: The newest snapshot that the plan knows.
        parses: File → its last parse.
    """

    def __init__(self, store: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.snapshot: str | None = None
        self.parses: dict[str, Parsed] = {}
        self._store = store
        self._clock = clock
        self._noticed_at = clock()
        self._awaited: set[str] = set()
        self._uses: dict[str, set[str]] = {}
        self._settings: dict[str, set[str]] = {}
        self._outside: dict[str, frozenset[str]] = {}
        self._parsed_at: dict[str, float] = {}
        self._saved: set[str] = set()
        self._alone: set[str] = set()
        self._waiting_since: dict[str, float] = {}

    # --- a new snapshot -----------------------------------------------------------------------

    def notice(self) -> None:
        """Note the time of a request to look for a new snapshot."""
        self._noticed_at = self._clock()

    def begin(self, snapshot: str, files: Collection[str]) -> Work:
        """Plan what a new snapshot makes necessary, and await it.

        Args:
            snapshot: Its id.
            files: The DAG files in it.
        """
        saved, users = self._affected(snapshot, files)
        removed = {
            name: tuple(sorted(self.parses[name].dags)) for name in self.parses if name not in files
        }
        for name in removed:
            self._forget(name)
        # What is still being parsed of a file that is gone must not count as starved.
        since = self._waiting_since.items()
        self._waiting_since = {name: waited for name, waited in since if name in files}
        self._saved.intersection_update(files)
        owners = self._owners(dag_id for dag_ids in removed.values() for dag_id in dag_ids)
        work = list(dict.fromkeys([*saved, *users, *owners]))
        # One that its author has just saved may hang; of many, most will not.
        self._saved.update(saved if len(saved) < MANY else ())
        self._awaited = self._awaited.intersection(files).union(work)
        now = self._clock()
        for name in work:
            self._waiting_since.setdefault(name, now)
        self.snapshot = snapshot
        return Work(files=tuple(work), removed=removed)

    def _forget(self, name: str) -> None:
        for known in (
            self.parses,
            self._uses,
            self._settings,
            self._outside,
            self._parsed_at,
        ):
            known.pop(name, None)
        self._alone.discard(name)

    def _affected(self, snapshot: str, files: Collection[str]) -> tuple[list[str], list[str]]:
        """The files that a save changed, and the other files that it affects."""
        changed = self._changes(self.snapshot, snapshot)
        if changed is None:
            return sorted(files), []
        saved = sorted(changed.intersection(files))
        others = set(files) - changed
        users = sorted(
            name
            for name in others
            if name not in self.parses or not changed.isdisjoint(self._uses.get(name, ()))
        )
        return saved, users

    def _changes(self, old: str | None, new: str) -> set[str] | None:
        """What differs between two snapshots, as `note_uses` names it; None if it is not known."""
        if old is None:
            return None
        try:
            changed = changed_paths(self._store, old, new)
        except OSError:  # The old snapshot was collected.
            return None
        # Who lists a folder is affected by everything below it.
        return changed | {
            f"{folder}/" for name in changed for folder in PurePosixPath(name).parents
        }

    def _owners(self, dag_ids: Iterable[str]) -> list[str]:
        """The files that define one of these DAGs."""
        wanted = set(dag_ids)
        return [name for name, parse in self.parses.items() if wanted & parse.dags.keys()]

    # --- the parses ---------------------------------------------------------------------------

    def group(self, waiting: Iterable[str], *, parsers: int) -> list[str]:
        """Choose the files that the next parser takes along.

        A file that its author has just saved shares no parser: it may hang, and the others would
        wait for it. Nor does one that has once not come back from a shared parser.

        The free parsers divide one half of them. So groups become smaller and end one after the
        other, and the results of one are stored while the next ones are parsed.

        Args:
            waiting: The files that wait for a parser, in their order.
            parsers: How many parsers are free, the next one included.
        """
        if sys.platform != "linux":
            return []  # Nothing would end the files' processes with their parser.
        sound = [name for name in waiting if self._may_share(name)]
        share = -(-len(sound) // (2 * max(1, parsers)))
        chosen: list[str] = []
        seconds = 0.0
        for name in sound[: min(share, GROUP_FILES)]:
            seconds += self.parses[name].seconds if name in self.parses else 0.0
            if seconds > GROUP_SECONDS:
                break
            chosen.append(name)
        return chosen

    def _may_share(self, name: str) -> bool:
        return not self.is_just_saved(name) and name not in self._alone

    def parse_alone(self, name: str) -> None:
        """Give a file its own parser from now on: it did not come back from a shared one."""
        self._alone.add(name)

    def is_just_saved(self, name: str) -> bool:
        """Whether a file is one of the few of a save, and its parse is not stored yet."""
        return name in self._saved

    def is_awaited(self, name: str) -> bool:
        """Whether the newest snapshot still lacks the parse of a file."""
        return name in self._awaited

    def is_outdated(self, name: str, snapshot: str, used: set[str]) -> bool:
        """Whether a save has changed what a parse used.

        Args:
            name: The file.
            snapshot: What the parse has read.
            used: The paths that it used.
        """
        # The store's newest snapshot, not the plan's: another replica may have stored its results.
        current = current_snapshot(self._store)
        if current is None or snapshot == current:
            return False
        changed = self._changes(snapshot, current)
        return changed is None or not changed.isdisjoint(used | {name})

    def is_starved(self, name: str) -> bool:
        """Whether saves have overtaken every parse of a file for a while."""
        since = self._waiting_since.get(name)
        return since is not None and self._clock() - since > STARVED_SECONDS

    def note_uses(self, name: str, used: set[str], *, complete: bool) -> None:
        """Remember what a parse used.

        Args:
            name: The file.
            used: The paths in the bundle.
            complete: Whether the parse came to its end. One that did not may have missed some
                paths, so the known ones stay.
        """
        known = set() if complete else self._uses.get(name, set())
        self._uses[name] = known | used | {name}

    def note_settings(self, name: str, read: Iterable[str], *, complete: bool) -> None:
        """Remember which variables and connections a parse read; `complete` as in `note_uses`."""
        known = set() if complete else self._settings.get(name, set())
        self._settings[name] = known.union(read)

    def readers(self, settings: Iterable[str]) -> set[str]:
        """The files whose last parse read one of these: `variables/KEY` or `connections/ID`."""
        changed = set(settings)
        if any(name.startswith("variables/") for name in changed):
            changed.add("variables/")
        return {name for name, read in self._settings.items() if read & changed}

    def parse_again(self, names: Iterable[str]) -> None:
        """Await the parse of files that no save affects."""
        self._awaited.update(names)

    def note_outside(self, name: str, reasons: Iterable[str]) -> None:
        """Remember why a file may come out differently although no save affects it."""
        self._outside[name] = frozenset(reasons)

    def due(self, *, interval: float) -> list[str]:
        """The files to parse again by the clock: those that read something beside the bundle.

        All of them together may use no more than `REST_SHARE` of a core.

        Args:
            interval: Seconds from one parse of a file to the next, at least.
        """
        names = [name for name in self.parses if self._outside.get(name)]
        cost = sum(self.parses[name].seconds + STORING_SECONDS for name in names)
        latest = self._clock() - max(interval, cost / REST_SHARE)
        return [name for name in names if self._parsed_at[name] <= latest]

    def awaited(self) -> list[str]:
        """The files whose parse the newest snapshot still lacks."""
        return sorted(self._awaited)

    def uses(self, name: str) -> tuple[str, ...]:
        """The paths that the last parse of a file used."""
        return tuple(sorted(self._uses.get(name, ())))

    def lose(self, name: str, dag_ids: Iterable[str]) -> list[str]:
        """Note that a file no longer defines some DAGs.

        Returns:
            The other files that define them, which must be parsed again.
        """
        self.parses.pop(name, None)
        owners = self._owners(dag_ids)
        self._awaited.update(owners)
        return owners

    def finish(self, parsed: Parsed, *, overtaken: bool) -> None:
        """Note a parse whose results are stored.

        Args:
            parsed: The parse.
            overtaken: Whether it is outdated, and stored because its file was starved.
        """
        self.parses[parsed.file] = parsed
        self._parsed_at[parsed.file] = self._clock()
        if overtaken:
            self._waiting_since[parsed.file] = self._clock()
            return
        self._waiting_since.pop(parsed.file, None)
        self._saved.discard(parsed.file)
        self._awaited.discard(parsed.file)

    # --- what others may know -----------------------------------------------------------------

    def settled(self) -> Settled | None:
        """The event that everything is parsed; None if something is awaited."""
        if self._awaited or self.snapshot is None:
            return None
        return Settled(snapshot=self.snapshot, seconds=round(self._clock() - self._noticed_at, 4))

    def state(self) -> ProcessorState:
        """All that the plan knows."""
        return ProcessorState(
            snapshot=self.snapshot,
            awaited=tuple(sorted(self._awaited)),
            files=tuple(self.parses.values()),
        )
