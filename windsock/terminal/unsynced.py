"""Show what does not reach Airflow: paths that are not synced, and saves that are noticed late.

Commands tell it when they come later than the sync; while they are attached the events do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.terminal.console import Console
    from windsock.terminal.places import Places

MOST_PATHS = 10
"""How many paths are told with their reasons; the others are counted."""


def unsynced(path: str, reason: str, *, places: Places) -> str:
    """The line about one path of the snapshot that is not synced."""
    return f"{places.shown(path)} is not synced: {reason}"


def all_unsynced(problems: Mapping[str, str], *, places: Places) -> list[str]:
    """The lines about all paths that are not synced, path → reason; many are counted."""
    told = sorted(problems.items())[:MOST_PATHS]
    lines = [unsynced(path, reason, places=places) for path, reason in told]
    if more := len(problems) - len(told):
        paths = "path is" if more == 1 else "paths are"
        lines.append(f"{more} more {paths} not synced; `invoke status --json` names them all")
    return lines


def show_unsynced(console: Console, problems: Mapping[str, str], *, places: Places) -> None:
    """Print each path that is not synced, path → reason."""
    for line in all_unsynced(problems, places=places):
        console.warning(line)


def show_standing(console: Console, state: Mapping[str, Any], *, places: Places) -> None:
    """Print what stands in an answer to `status`, and is in no event to come: notes and paths."""
    for each in map(events.from_json, state.get("troubles", ())):
        if isinstance(each, events.Note):
            console.warning(each.message)
    show_unsynced(console, state.get("problems", {}), places=places)
