"""What a session tells while it syncs. Each event is a small frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.sync.tree import Difference, Entry


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The agent answers.

    Attributes:
        tree: The tree id that the store is at; None for an empty store.
        pid: The agent's process id, where it runs.
        again: It is not the first connection of this session.
    """

    tree: str | None
    pid: int
    again: bool


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """The agent is gone; the session tries again in `retry` seconds."""

    reason: str
    retry: float


@dataclass(frozen=True, kw_only=True)
class Held:
    """Somebody else syncs: nothing is sent until the sync is taken over.

    Attributes:
        reason: Who, and since when.
        hint: What to do about it.
    """

    reason: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Behind:
    """After connecting: this many paths differ between folder and store."""

    paths: int


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The store has a new snapshot.

    Attributes:
        batch: Counts up within a session.
        tree: The new tree id.
        difference: The paths that changed.
        content_bytes: How much content had to travel; 0 if a cut took the agent's answer away.
        seconds: From the first sign of the change until the snapshot was there, or known to be.
        store_seconds: How much of that the agent took; 0 likewise.
        entries: All that the new tree holds.
    """

    batch: int
    tree: str
    difference: Difference
    content_bytes: int
    seconds: float
    store_seconds: float
    entries: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CaughtUp:
    """Folder and store are equal.

    Attributes:
        tree: The tree id of both.
        entries: All that it holds.
    """

    tree: str
    entries: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A path does not travel; told once for each path and reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LetIn:
    """A path that was left out travels, or is gone."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Halted:
    """Nothing is sent until files come back or `allow_empty` is called; the store stays."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The reason to halt is gone."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The store did not take a batch and is as it was; tried again in `retry` seconds."""

    code: str
    message: str
    retry: float


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something to know that changes nothing, such as watching by polling."""

    message: str


@dataclass(frozen=True, kw_only=True)
class ProcessorConnection:
    """The dag-processor listens, or does not any more."""

    connected: bool


@dataclass(frozen=True, kw_only=True)
class ProcessorMessage:
    """What the dag-processor said, as it said it."""

    message: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """A request found no dag-processor."""

    message: dict[str, Any]


Event = (
    Connected
    | Disconnected
    | Held
    | Behind
    | Sent
    | CaughtUp
    | LeftOut
    | LetIn
    | Halted
    | Resumed
    | Refused
    | Note
    | ProcessorConnection
    | ProcessorMessage
    | Undelivered
)
