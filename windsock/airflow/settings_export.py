"""Connections, variables and pools of `airflow_settings.yaml`, in the format of Astro's users.

The file wins: what it names is made so, what it no longer names is deleted if windsock imported it
before, and what somebody made by hand in the UI is left alone. Airflow masks secrets, so whether a
password changed cannot be seen there; a record beside the environment keeps a keyed digest of each
entry as it was imported. See docs/settings.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from windsock.airflow.settings_file import Entries, read, variables_in
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from windsock.airflow.api import Airflow

KINDS = ("connections", "variables", "pools")
_IDENTIFIER = {"connections": "connection_id", "variables": "key", "pools": "name"}
_MASK = "***"
_DEFAULT_POOL = "default_pool"
_DEFAULT_POOL_SLOTS = 128
_OWNER_ONLY = 0o600


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an import did to one kind of object: ids, in order."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.updated or self.removed)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an import did; false if it did nothing."""

    connections: Change = field(default_factory=Change)
    variables: Change = field(default_factory=Change)
    pools: Change = field(default_factory=Change)

    def __bool__(self) -> bool:
        return bool(self.connections or self.variables or self.pools)

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


def load(path: Path, *, environment: Mapping[str, str] | None = None) -> Entries:
    """Read a settings file; one that does not exist holds nothing.

    Args:
        path: Of the YAML file.
        environment: For `${NAME}`; this process's own by default.

    Raises:
        ConfigurationError: It cannot be read or used; says the line.
    """
    return read(path, environment=environment)


def digest(path: Path, *, environment: Mapping[str, str] | None = None) -> str:
    """A digest of what `load` would read: of the file and of the variables that it names.

    Args:
        path: Of the YAML file.
        environment: For `${NAME}`; this process's own by default.

    Returns:
        Hexadecimal; empty if there is no such file.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    named = variables_in(content.decode(errors="replace"), environment=environment)
    return hashlib.sha256(content + json.dumps(named, sort_keys=True).encode()).hexdigest()


def apply(entries: Entries, api: Airflow, *, record: Path) -> Changes:
    """Make Airflow's connections, variables and pools as the file says.

    Doing it twice changes nothing the second time.

    Args:
        entries: What `load` read.
        api: The Airflow to change.
        record: A JSON file, written 0600: what windsock imported before.

    Raises:
        ConfigurationError: Airflow refuses an entry.
        EnvironmentFailure: Airflow or the record cannot be reached.
    """
    before = _Record.load(record)
    done: dict[str, Change] = {}
    for kind in KINDS:
        wanted = {entity[_IDENTIFIER[kind]]: entity for entity in entries.bodies(kind)}
        # Written down first: if we die halfway, what we made is still known to be ours.
        before.remember(kind, wanted)
        before.save(record)
        done[kind] = _apply_kind(kind, wanted, api=api, record=before)
        before.save(record)
    return Changes(**done)


def _apply_kind(
    kind: str, wanted: Mapping[str, dict[str, Any]], *, api: Airflow, record: _Record
) -> Change:
    present = {item[_IDENTIFIER[kind]]: item for item in api.objects(kind)}
    added = [key for key in wanted if key not in present]
    updated = [
        key
        for key in wanted
        if key in present
        and not (record.same(kind, key, wanted[key]) and _looks_like(present[key], wanted[key]))
    ]
    removed = [
        key
        for key in record.ids(kind)
        if key not in wanted and key in present and key != _DEFAULT_POOL
    ]
    # Airflow never empties a stored password; only a new connection is without one.
    reborn = [
        key
        for key in updated
        if kind == "connections" and _password_goes(present[key], wanted[key])
    ]
    if reborn:
        api.change_objects(kind, delete=reborn)
    api.change_objects(kind, write=[wanted[key] for key in [*added, *updated]], delete=removed)
    record.settle(kind, wanted)
    touched = {*added, *updated}
    return Change(
        added=tuple(added),
        updated=tuple(updated),
        removed=tuple(removed),
        unchanged=tuple(key for key in wanted if key not in touched),
    )


def _password_goes(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return bool(present.get("password")) and not wanted.get("password")


def _looks_like(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether what Airflow shows agrees with what is wanted; a mask agrees with any secret."""
    return all(_agrees(present.get(key), value) for key, value in wanted.items())


def _agrees(shown: Any, wanted: Any) -> bool:
    shown, wanted = _parsed(shown), _parsed(wanted)
    if isinstance(shown, dict) and isinstance(wanted, dict):
        return shown.keys() == wanted.keys() and all(
            _agrees(shown[key], wanted[key]) for key in wanted
        )
    if isinstance(shown, list) and isinstance(wanted, list):
        return len(shown) == len(wanted) and all(map(_agrees, shown, wanted))
    if isinstance(shown, str) and _MASK in shown:
        return bool(wanted)
    return bool(shown == wanted) or (not shown and not wanted)


def _parsed(value: Any) -> Any:
    """JSON text as its value: Airflow writes it anew when it looks for secrets, `1.10` as `1.1`."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


class _Record:
    """What windsock imported: for each kind, id → keyed digest of the entry (empty: under way)."""

    def __init__(self, key: str, imported: dict[str, dict[str, str]]) -> None:
        self._key = key
        self._imported = imported

    @classmethod
    def load(cls, path: Path) -> _Record:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(values["key"], {kind: dict(values[kind]) for kind in KINDS})
        except FileNotFoundError:
            return cls(secrets.token_hex(16), {kind: {} for kind in KINDS})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentFailure(
                f"{path} cannot be used: {error}",
                "Delete it; then nothing that an earlier import made is removed any more.",
            ) from error

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.unlink(missing_ok=True)
            fresh.touch(mode=_OWNER_ONLY)
            fresh.write_text(json.dumps({"key": self._key, **self._imported}, indent=2) + "\n")
            fresh.replace(path)
        except OSError as error:
            raise EnvironmentFailure(f"{path} cannot be written: {error}") from error

    def ids(self, kind: str) -> list[str]:
        return sorted(self._imported[kind])

    def same(self, kind: str, key: str, entity: Mapping[str, Any]) -> bool:
        return hmac.compare_digest(self._imported[kind].get(key, ""), self._digest(entity))

    def remember(self, kind: str, keys: Iterable[str]) -> None:
        for key in keys:
            self._imported[kind].setdefault(key, "")

    def settle(self, kind: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        self._imported[kind] = {key: self._digest(entity) for key, entity in wanted.items()}

    def _digest(self, entity: Mapping[str, Any]) -> str:
        text = json.dumps(entity, sort_keys=True)
        return hashlib.blake2b(
            text.encode(), key=bytes.fromhex(self._key), digest_size=16
        ).hexdigest()


_EXPORT_HEAD = f"""\
# Written by `invoke settings.export`.
# Airflow's API shows no secrets: it puts {_MASK} in their place. Replace each {_MASK} by its
# value, or by ${{NAME}} to take it from an environment variable; a file that holds the mask
# is not imported.
"""


def export(api: Airflow) -> str:
    """The connections, variables and pools of an Airflow as a settings file.

    Returns:
        YAML text. Secrets are masked, as Airflow's API gives them.
    """
    import yaml  # noqa: PLC0415 - only an export needs it

    entries = {
        "connections": [_exported_connection(item) for item in _sorted(api, "connections")],
        "variables": [
            {"variable_name": item["key"], "variable_value": item["value"] or ""}
            for item in _sorted(api, "variables")
        ],
        "pools": [
            {
                "pool_name": item["name"],
                "pool_slot": item["slots"],
                "pool_description": item["description"] or "",
            }
            for item in _sorted(api, "pools")
            if item["name"] != _DEFAULT_POOL or item["slots"] != _DEFAULT_POOL_SLOTS
        ],
    }
    text = yaml.safe_dump({"airflow": entries}, sort_keys=False, allow_unicode=True)
    return _EXPORT_HEAD + text


def _sorted(api: Airflow, kind: str) -> list[dict[str, Any]]:
    return sorted(api.objects(kind), key=lambda item: str(item[_IDENTIFIER[kind]]))


def _exported_connection(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        "conn_id": item["connection_id"],
        "conn_type": item["conn_type"],
        "conn_host": item["host"],
        "conn_schema": item["schema"],
        "conn_login": item["login"],
        "conn_password": item["password"],
        "conn_port": item["port"],
        "conn_extra": _parsed(item["extra"]),
    }
    return {key: value for key, value in fields.items() if value not in (None, "", {})}
