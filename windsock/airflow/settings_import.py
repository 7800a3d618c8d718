"""Import `airflow_settings.yaml` into an environment, once for each content.

The file wins over what Airflow has. What the file no longer names is deleted if windsock imported
it before; what a person made in the UI stays. Airflow masks secrets, so it does not show whether a
password changed: a record next to the environment has a keyed digest of each imported entry. See
docs/settings.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.errors import EnvironmentFailure
from windsock.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.settings_file import Entries
    from windsock.model import Environment

RECORD = "imported-settings.json"

KINDS = ("connections", "variables", "pools")
IDENTIFIERS = {"connections": "connection_id", "variables": "key", "pools": "name"}
DEFAULT_POOL = "default_pool"
MASK = "***"
"""What Airflow shows in place of a secret."""


def import_settings(
    path: Path,
    environment: Environment,
    *,
    state_folder: Path,
    variables: Mapping[str, str] = os.environ,
    client: Callable[[Environment], Airflow] | None = None,
) -> Changes | None:
    """Make Airflow's connections, variables and pools equal to the file, if it changed.

    Args:
        path: Of the YAML file; one that was deleted takes away what it brought.
        environment: Whose Airflow to change.
        state_folder: Where the record of what was imported is.
        variables: For `${NAME}`.
        client: Makes the client of the Airflow; `Airflow.of` by default.

    Returns:
        What was done, or None if the file is as it was at the last import.

    Raises:
        ConfigurationError: The file cannot be used, or Airflow refuses an entry.
        EnvironmentFailure: Airflow does not answer, or the record cannot be used.
    """
    # A command that imports nothing does not pay for YAML and an HTTP client.
    from windsock.airflow import settings_file  # noqa: PLC0415 - see above
    from windsock.airflow.api import Airflow  # noqa: PLC0415 - see above

    record = ImportRecord(state_folder / RECORD)
    content = settings_file.content(path, environment=variables)
    if record.is_imported(content):
        return None
    with (client or Airflow.of)(environment) as api:
        changes = apply(settings_file.read(path, environment=variables), api, record=record)
    record.imported(content)
    return changes


def forget_imports(state_folder: Path) -> None:
    """A fresh database has nothing of what was imported before."""
    (state_folder / RECORD).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an import did to one kind of object: ids, in order."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an import did."""

    connections: Change = Change()
    variables: Change = Change()
    pools: Change = Change()

    def names(self) -> frozenset[str]:
        """What a DAG file may read differently now: `variables/KEY` and `connections/ID`."""
        return frozenset(
            f"{kind}/{key}"
            for kind in ("connections", "variables")
            for change in [getattr(self, kind)]
            for key in (*change.added, *change.updated, *change.removed)
        )

    def summary(self) -> str:
        """One line: `connections +1 ~1 -1, variables unchanged (3)`; empty if there are none."""
        parts = []
        for kind in KINDS:
            change: Change = getattr(self, kind)
            signs = (("+", change.added), ("~", change.updated), ("-", change.removed))
            counts = [f"{sign}{len(ids)}" for sign, ids in signs if ids]
            if counts:
                parts.append(f"{kind} {' '.join(counts)}")
            elif change.unchanged:
                parts.append(f"{kind} unchanged ({len(change.unchanged)})")
        return ", ".join(parts)


def apply(entries: Entries, api: Airflow, *, record: ImportRecord) -> Changes:
    """Make Airflow's connections, variables and pools equal to the file.

    Raises:
        ConfigurationError: Airflow refuses an entry.
        EnvironmentFailure: Airflow does not answer, or the record cannot be written.
    """
    done: dict[str, Change] = {}
    for kind in KINDS:
        wanted = {entity[IDENTIFIERS[kind]]: entity for entity in entries.bodies(kind)}
        # Recorded first: an import that dies halfway still knows what it made.
        record.begin(kind, wanted)
        done[kind] = _apply_kind(kind, wanted, api=api, record=record)
        record.finish(kind, wanted)
    return Changes(**done)


def _apply_kind(
    kind: str, wanted: Mapping[str, dict[str, Any]], *, api: Airflow, record: ImportRecord
) -> Change:
    present = {item[IDENTIFIERS[kind]]: item for item in api.objects(kind)}
    added = [key for key in wanted if key not in present]
    updated = [
        key
        for key in wanted
        if key in present
        and not (record.has(kind, key, wanted[key]) and _shows(present[key], wanted[key]))
    ]
    removed = [
        key
        for key in record.ids(kind)
        if key not in wanted and key in present and key != DEFAULT_POOL
    ]
    # Airflow never empties a stored password: only a new connection is without one.
    recreated = [
        key for key in updated if present[key].get("password") and not wanted[key].get("password")
    ]
    if recreated:
        api.change_objects(kind, delete=recreated)
    api.change_objects(kind, write=[wanted[key] for key in [*added, *updated]], delete=removed)
    touched = {*added, *updated}
    return Change(
        added=tuple(added),
        updated=tuple(updated),
        removed=tuple(removed),
        unchanged=tuple(key for key in wanted if key not in touched),
    )


def _shows(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether what Airflow shows agrees with what is wanted; a mask agrees with any secret."""
    return all(
        _agrees(_parsed(key, present.get(key)), _parsed(key, value))
        for key, value in wanted.items()
    )


def _parsed(key: str, value: Any) -> Any:
    """JSON as its value: Airflow writes it anew when it looks for secrets, `1.10` as `1.1`."""
    if key in {"value", "extra"} and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _agrees(shown: Any, wanted: Any) -> bool:
    if isinstance(shown, dict) and isinstance(wanted, dict):
        return shown.keys() == wanted.keys() and all(
            _agrees(shown[key], wanted[key]) for key in wanted
        )
    if isinstance(shown, list) and isinstance(wanted, list):
        return len(shown) == len(wanted) and all(map(_agrees, shown, wanted))
    if isinstance(shown, str) and MASK in shown:
        return wanted not in (None, "")
    if wanted is None or wanted == "":
        return shown in (None, "") or (wanted is None and shown == {})
    return type(shown) is type(wanted) and bool(shown == wanted)  # `true` is not `1`.


class ImportRecord:
    """What windsock imported, in a file for its owner only; empty if there is no file.

    `_entries` is, for each kind, id → digest of the entry; the digest is empty while its import is
    under way. `_content` is the digest of the settings file. All digests are keyed: a password in a
    known file cannot be guessed from its digest.

    Args:
        path: Of the JSON file.

    Raises:
        EnvironmentFailure: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            self._key = str(values["key"])
            self._content = str(values.get("content", ""))
            self._entries = {kind: dict(values[kind]) for kind in KINDS}
        except FileNotFoundError:
            self._key, self._content = secrets.token_hex(16), ""
            self._entries = {kind: {} for kind in KINDS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentFailure(
                f"{path} cannot be used: {error}",
                "Delete it. What an earlier import made is then never removed.",
            ) from error

    def _save(self) -> None:
        values = {"key": self._key, "content": self._content, **self._entries}
        write_whole(self._path, json.dumps(values, indent=2) + "\n")

    def is_imported(self, content: str) -> bool:
        """Whether this is the content that was imported last."""
        return hmac.compare_digest(self._content, self._digest(content) if content else "")

    def imported(self, content: str) -> None:
        """Record the content that was imported."""
        self._content = self._digest(content) if content else ""
        self._save()

    def ids(self, kind: str) -> list[str]:
        """What an import made, or may have made."""
        return sorted(self._entries[kind])

    def has(self, kind: str, key: str, entry: Mapping[str, Any]) -> bool:
        """Whether an entry was imported as it is now."""
        return hmac.compare_digest(self._entries[kind].get(key, ""), self._digest(entry))

    def begin(self, kind: str, wanted: Mapping[str, Any]) -> None:
        """Record what is about to be made."""
        self._entries[kind] = dict.fromkeys(wanted, "") | self._entries[kind]
        self._save()

    def finish(self, kind: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what was made."""
        self._entries[kind] = {key: self._digest(entry) for key, entry in wanted.items()}
        self._save()

    def _digest(self, value: Any) -> str:
        text = json.dumps(value, sort_keys=True).encode()
        return hashlib.blake2b(text, key=bytes.fromhex(self._key), digest_size=16).hexdigest()
