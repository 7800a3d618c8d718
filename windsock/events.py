"""The events of an environment: what happened to a save, from the folder to Airflow's answer.

The dag-processor, the sync and the sync process make them. Every reader (terminal, tests, editors)
gets the same records, as one JSON object a line. docs/events.md describes each field, and what may
change in a schema.

Airflow's processes import this module too: it needs the standard library alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """One message about what happened."""


# --- the sync ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Connected(Event):
    """The agent answers."""

    snapshot: str | None
    pid: int
    again: bool


@dataclass(frozen=True, kw_only=True)
class Disconnected(Event):
    """The agent is gone."""

    reason: str
    retry: float


@dataclass(frozen=True, kw_only=True)
class Busy(Event):
    """Somebody else syncs: nothing is sent until the sync is taken over."""

    reason: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Behind(Event):
    """The folder and the store differ after a connection was made."""

    count: int


@dataclass(frozen=True, kw_only=True)
class Sent(Event):
    """The store has a new snapshot."""

    snapshot: str
    paths: tuple[str, ...]
    count: int
    bytes: int
    since_save: float


@dataclass(frozen=True, kw_only=True)
class CaughtUp(Event):
    """The folder and the store are equal."""

    snapshot: str


@dataclass(frozen=True, kw_only=True)
class NotSynced(Event):
    """A path is not sent; published once for each path and reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SyncedAgain(Event):
    """A path that was not sent is sent, or is gone."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Halted(Event):
    """A folder is empty or missing, and nobody has confirmed that; its files stay in Airflow."""

    reason: str
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """The reason to halt is gone."""


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """The store did not take a save, and is as it was."""

    code: str
    message: str
    retry: float


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """Something to know that changes nothing."""

    message: str


@dataclass(frozen=True, kw_only=True)
class ProcessorConnection(Event):
    """The agent has found the dag-processor, or has lost it."""

    connected: bool


# --- the dag-processor ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Parsing(Event):
    """A save affects these DAG files; they are parsed now."""

    snapshot: str
    files: tuple[str, ...]
    settings: tuple[str, ...] = ()
    since_save: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parsed(Event):
    """Airflow has parsed a file and stored its DAGs."""

    snapshot: str
    file: str
    dags: dict[str, int]
    errors: dict[str, str]
    seconds: float
    used: tuple[str, ...] = ()
    news: bool = False
    paused: dict[str, str] = field(default_factory=dict)
    since_save: float | None = None


@dataclass(frozen=True, kw_only=True)
class Removed(Event):
    """DAGs are gone, with their file or from it."""

    snapshot: str
    file: str
    dags: tuple[str, ...]
    since_save: float | None = None


@dataclass(frozen=True, kw_only=True)
class FileWarning(Event):
    """Something about a file that is no error, and that its author should know."""

    file: str
    message: str
    line: int | None = None
    news: bool = False


@dataclass(frozen=True, kw_only=True)
class Settled(Event):
    """Airflow has parsed all that a save affects."""

    snapshot: str
    seconds: float
    warnings: tuple[FileWarning, ...] = ()
    since_save: float | None = None


@dataclass(frozen=True, kw_only=True)
class ProcessorState(Event):
    """All that the dag-processor knows; it greets each client with it."""

    snapshot: str | None
    awaited: tuple[str, ...]
    files: tuple[Parsed, ...]
    warnings: tuple[FileWarning, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StockProcessor(Event):
    """The greeting of a stock dag-processor, which cannot say what it does."""

    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class References(Event):
    """The answer to the agent's question which snapshots are still needed."""

    snapshots: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RequestRefused(Event):
    """The dag-processor cannot answer a request."""

    reason: str


# --- the sync process -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attached(Event):
    """The first line for each client that attaches: it misses nothing from now on."""


@dataclass(frozen=True, kw_only=True)
class SettingsImported(Event):
    """airflow_settings.yaml was imported after a save."""

    summary: str


@dataclass(frozen=True, kw_only=True)
class SettingsFailed(Event):
    """airflow_settings.yaml could not be imported."""

    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Restarting(Event):
    """Plugins changed, and Airflow's components are restarted to load them."""

    components: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Restarted(Event):
    """Airflow's components are healthy again, with the new plugins."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class RestartFailed(Event):
    """Plugins changed, and a component did not become healthy again."""

    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class ComponentFailing(Event):
    """A component ends by itself again and again."""

    component: str
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class ComponentRecovered(Event):
    """A component that ended again and again has lived for longer, or has got another pod."""

    component: str


# --- as JSON ----------------------------------------------------------------------------------


def type_of(record: type) -> str:
    """The value of `type` in the lines of a record: `CaughtUp` is `caught-up`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", record.__name__).lower()


RECORDS: dict[str, Any] = {type_of(record): record for record in Event.__subclasses__()}
HINTS = {record: get_type_hints(record) for record in RECORDS.values()}


def to_json(event: Event) -> dict[str, Any]:
    """The JSON object of an event; lists and records inside it are as the event has them."""
    return {"schema": SCHEMA, "type": type_of(type(event)), **vars(event)}


def to_line(event: Event) -> bytes:
    """An event as a line."""
    return json.dumps(to_json(event), default=vars).encode() + b"\n"


def from_json(value: Any) -> Event | None:
    """The event of a JSON object; None if it is none, or one of a newer schema."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return None
    record = RECORDS.get(str(value.get("type")))
    if record is None:
        return None
    try:
        event: Event = _record(record, value)
    except ValueError:
        return None
    return event


def from_line(line: bytes | str) -> Event | None:
    """The event of a line; None if the line is cut, malformed, unknown or of a newer schema."""
    try:
        return from_json(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _record(record: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for all that is wrong
    taken = {}
    for item in fields(record):
        if item.name in value:
            taken[item.name] = _value(HINTS[record][item.name], value[item.name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{item.name} is missing")
    return record(**taken)


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return _record(kind, value)
    inner = get_args(kind)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(inner[0], each) for each in value)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {name: _value(inner[1], each) for name, each in value.items()}
    types = inner if get_origin(kind) is UnionType else (kind,)
    if float in types and type(value) is int:
        return float(value)
    if type(value) not in types:
        raise ValueError(f"{value!r} is no {kind}")
    return value
