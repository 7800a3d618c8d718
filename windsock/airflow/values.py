"""XCom values as Python objects again.

Airflow's API returns an XCom as it is stored: JSON, in which a value of another type is
`{"__classname__": …, "__version__": …, "__data__": …}` (`airflow/sdk/serde`). This module restores
the everyday types, so that a test compares with what the task returned. Any other class stays in
the stored form: its module need not exist where the test runs.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def _datetime(data: Any) -> datetime | None:
    # A naive datetime is stored as a timestamp of the worker's zone, which we cannot know.
    if not isinstance(data, dict) or data.get("tz") is None:
        return None
    return datetime.fromtimestamp(data["timestamp"], tz=UTC)


_TYPES: dict[str, Callable[[Any], Any]] = {
    "builtins.tuple": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "datetime.datetime": _datetime,
    "pendulum.datetime.DateTime": _datetime,
    "datetime.date": date.fromisoformat,
    "datetime.timedelta": lambda seconds: timedelta(seconds=float(seconds)),
    "decimal.Decimal": lambda number: Decimal(str(number)),
}


def decode(stored: Any) -> Any:
    """A stored XCom value as the task returned it, as far as its types are everyday ones."""
    if isinstance(stored, list):
        return [decode(item) for item in stored]
    if not isinstance(stored, dict):
        return stored
    kind = _TYPES.get(stored.get("__classname__", ""))
    if kind is None or "__data__" not in stored:
        return {key: decode(value) for key, value in stored.items()}
    data = stored["__data__"]
    value = kind(decode(data) if isinstance(data, list) else data)
    return stored if value is None else value
