"""The result of a save in the terminal: one line for each save.

`Feedback` takes the events of the sync process one by one. It prints an import error at once, with
the user's own file and line, and one line when Airflow has parsed the whole save.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from windsock import events
from windsock.errors import WindsockError
from windsock.terminal.broken_files import BrokenFiles
from windsock.terminal.file_warnings import show_warning
from windsock.terminal.unsynced import show_unsynced, unsynced
from windsock.terminal.words import MOST_NAMES, some

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.events import Event
    from windsock.terminal.console import Console
    from windsock.terminal.places import Places

PROGRESS_SECONDS = 5.0
"""How often a long parse shows how far it is."""

PRESETS = {
    "0 * * * *": "@hourly",
    "0 0 * * *": "@daily",
    "0 0 * * 0": "@weekly",
    "0 0 1 * *": "@monthly",
    "0 0 1 */3 *": "@quarterly",
    "0 0 1 1 *": "@yearly",
}
"""What Airflow makes of these words in a DAG file → the words."""


@dataclass
class Save:
    """A save that Airflow has not completely parsed yet.

    Attributes:
        paths: The first few paths that changed.
        count: How many paths changed.
        affected: The DAG files that are parsed because of the save; None until that is known.
        files: DAG file that is parsed already → its last parse.
        removed: DAG file → the ids of DAGs that are gone from it, or with it.
        told: When it was last shown how far it is, in monotonic seconds.
    """

    paths: list[str]
    count: int
    affected: set[str] | None = None
    files: dict[str, events.Parsed] = field(default_factory=dict)
    removed: dict[str, set[str]] = field(default_factory=dict)
    told: float = 0.0

    @property
    def dags(self) -> dict[str, int]:
        """DAG id → number of tasks, from the files that are parsed already."""
        return {dag: tasks for each in self.files.values() for dag, tasks in each.dags.items()}

    @property
    def paused(self) -> dict[str, str]:
        """DAG id → its schedule, of those that a schedule would start if they were not paused."""
        return {dag: when for each in self.files.values() for dag, when in each.paused.items()}

    @property
    def broken(self) -> int:
        """How many files do not import, and have shown why."""
        return sum(bool(each.errors) and self.shows_errors_of(each) for each in self.files.values())

    @property
    def still_broken(self) -> int:
        """How many files are broken as before."""
        return sum(bool(each.errors) for each in self.files.values()) - self.broken

    def shows_errors_of(self, parsed: events.Parsed) -> bool:
        """What was broken before, in the same way, is only counted, unless it was just saved."""
        return parsed.news or parsed.file in self.paths


class Feedback:
    """Prints events as lines.

    Args:
        console: Prints.
        places: Where the author's files are.
        clock: Monotonic seconds.
    """

    def __init__(
        self, console: Console, places: Places, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._clock = clock
        self._places = places
        self._broken = BrokenFiles(console, places)
        self._saves: dict[str, Save] = {}
        self._readers: set[str] = set()
        """The files that are parsed because a variable or connection changed, without a save."""

    def show(self, event: Event) -> None:
        """Print the line of an event, if it has one yet."""
        match event:
            case events.Sent(snapshot=snapshot):
                self._saves.pop(snapshot, None)  # After an undone edit it is the newest again.
                paths, now = list(event.paths), self._clock()
                self._saves[snapshot] = Save(paths=paths, count=event.count, told=now)
            case events.Parsing():
                self._note_parsing(event)
            case events.Removed(snapshot=snapshot, file=file, dags=dags):
                if save := self._saves.get(snapshot):
                    save.removed.setdefault(file, set()).update(dags)
            case events.Parsed():
                self._show_parsed(event)
            case events.Settled(warnings=warnings):
                self._show_settled(event)
                for warning in warnings:
                    if warning.news:
                        show_warning(self._console, warning, places=self._places)
            case _:
                self._show_sync(event)

    def show_unsynced(self, problems: Mapping[str, str]) -> None:
        """Print the paths that were not synced before the first event, path → reason."""
        show_unsynced(self._console, problems, places=self._places)

    def _show_sync(self, event: Event) -> None:
        console = self._console
        match event:
            case events.Connected():
                console.success("connected")
            case events.Disconnected(reason=reason):
                console.warning(f"disconnected: {reason}; trying again")
            case events.Behind(count=count) if count:
                console.line(f"  behind by {count} {'file' if count == 1 else 'files'}")
            case events.CaughtUp():
                console.success("caught up")
            case events.Busy(reason=reason, hint=hint):
                kept = "Your saves are not synced, but your files stay as they are."
                console.error(WindsockError(reason, f"{kept}\n{hint}"))
            case events.Halted(reason=reason, folders=folders) if folders:
                console.warning(f"not synced: {reason}")
                console.line("  Its files in Airflow stay as they were, all else is synced. Put it")
                console.line("  back, or sync it as it is: `invoke sync --allow-empty`.")
            case events.Halted(reason=reason):
                console.warning(f"sync halted: {reason}")
                console.line("  Airflow's DAGs stay as they were. Put the files back, or sync the")
                console.line("  empty folder: `invoke sync --allow-empty`.")
            case events.Resumed():
                console.success("sync goes on")
            case events.Refused(message=message):
                what = f"the save could not be stored: {message}"
                console.error(WindsockError(what, "It is tried again; nothing is lost."))
            case _:
                self._show_others(event)

    def _show_others(self, event: Event) -> None:
        console = self._console
        match event:
            case events.NotSynced(path=path, reason=reason):
                console.warning(unsynced(path, reason, places=self._places))
            case events.Note(message=message):
                console.warning(message)
            case events.SettingsImported(summary=summary):
                console.success(f"settings: {summary or 'nothing in the file'}")
            case events.SettingsFailed(message=message, hint=hint):
                console.error(WindsockError(message, hint))
            case events.Restarting(components=components):
                console.line(f"  plugins changed: restarting {', '.join(components)}")
            case events.Restarted(seconds=seconds):
                console.success(f"restarted, with the new plugins{_time(seconds)}")
            case events.ComponentFailing(message=message, hint=hint):
                console.error(WindsockError(message, hint))
            case events.ComponentRecovered(component=component):
                console.success(f"{component} works again")
            case events.RestartFailed(message=message, hint=hint):
                what = f"plugins changed, but the restart failed: {message}"
                console.error(WindsockError(what, hint))

    def _note_parsing(self, event: events.Parsing) -> None:
        if save := self._saves.get(event.snapshot):
            save.affected = (save.affected or set()).union(event.files)
        elif event.settings:
            self._readers.update(event.files)

    def _show_parsed(self, event: events.Parsed) -> None:
        save = self._saves.get(event.snapshot) if self._is_awaited(event.file) else None
        if save is not None:
            save.files[event.file] = event
            self._show_progress(save)
        if save.shows_errors_of(event) if save else event.news:
            is_one_of_many = save is not None or event.file in self._readers
            broken = self._broken if is_one_of_many else BrokenFiles(self._console, self._places)
            for path, trace in event.errors.items():
                broken.show(path, trace, seconds=event.since_save)
        if event.file in self._readers:
            self._readers.remove(event.file)
            if not self._readers:
                self._broken.summarize()
        if save is None and event.news and not event.errors:
            self._console.success(f"{self._places.shown(event.file)} imports again")

    def _show_progress(self, save: Save) -> None:
        done, of = len(save.files), len(save.affected or ())
        if done < of and self._clock() - save.told > PROGRESS_SECONDS:
            save.told = self._clock()
            self._console.line(f"  {done} of {of} files parsed")

    def _is_awaited(self, file: str) -> bool:
        """Whether a save affects a file; Airflow also parses other files from time to time."""
        return any(save.affected is None or file in save.affected for save in self._saves.values())

    def _show_settled(self, event: events.Settled) -> None:
        if event.snapshot not in self._saves:
            return
        settled = list(self._saves)[: list(self._saves).index(event.snapshot) + 1]
        # Airflow parsed older saves together with this one.
        save = _together([self._saves.pop(snapshot) for snapshot in settled])
        self._broken.summarize()
        nothing = not save.dags and not any(save.removed.values())
        is_told = save.broken or any(each.file in save.paths for each in event.warnings)
        if nothing and is_told and not save.still_broken:
            return
        self._console.success(
            f"{_saved(save, self._places)} → {_outcome(save)}{_time(event.since_save)}"
        )


def _together(saves: list[Save]) -> Save:
    """Several saves as one."""
    files: dict[str, events.Parsed] = {}
    removed: dict[str, set[str]] = {}
    for save in saves:
        files = {file: each for file, each in files.items() if file not in save.removed}
        files |= save.files
        for file, dags in save.removed.items():
            removed[file] = removed.get(file, set()) | dags
    named = [path for save in saves for path in save.paths]
    paths = sorted(set(named))
    counts = [save.count for save in saves]
    return Save(
        paths=paths,
        # Of many files only the first are named: saves that share none of those share no others.
        count=sum(counts) if len(paths) == len(named) else max(len(paths), *counts),
        files=files,
        removed=removed,
    )


def _saved(save: Save, places: Places) -> str:
    if save.count > MOST_NAMES:
        return f"{save.count} files"
    return ", ".join(map(places.shown, save.paths))


def _outcome(save: Save) -> str:
    parts = []
    paused = save.paused
    if save.dags:
        tasks = [
            f"{dag} ({count} {'task' if count == 1 else 'tasks'}{_paused(paused.get(dag))})"
            for dag, count in sorted(save.dags.items())
        ]
        parts.append(some(tasks))
    gone = sorted(set().union(*save.removed.values()) - set(save.dags))
    if gone:
        parts.append(f"removed {some(gone)}")
    if save.broken:
        parts.append(f"{save.broken} broken")
    if count := save.still_broken:
        parts.append(f"{count} {'file is' if count == 1 else 'files are'} still broken")
    return "; ".join(parts) or "no DAG affected"


def _paused(schedule: str | None) -> str:
    return "" if schedule is None else f", paused, {PRESETS.get(schedule, schedule)}"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"  {seconds:.2f} s"
