"""Texts that come from a DAG file, as PostgreSQL, JSON and Airflow's messages take them."""

from __future__ import annotations

import json
from typing import Any

LONGEST_TEXT = 200_000
"""Of an import error; a message may hold a whole table."""


def storable(text: str) -> str:
    """A text of whole characters, without NUL, and not without end."""
    if len(text) > LONGEST_TEXT:
        half = LONGEST_TEXT // 2
        text = f"{text[:half]}\n[{len(text) - LONGEST_TEXT} characters left out]\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def describe(error: BaseException) -> str:
    """An exception in one line: a database driver adds its whole statement, with all parameters."""
    text = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
    return storable(text.split("\n", maxsplit=1)[0])


def unstorable(data: Any) -> str:
    """Where a serialized DAG holds half a character (a lone surrogate); empty if nowhere."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _place(data) or "its serialized form"
    except (TypeError, ValueError):
        pass  # Not our business.
    return ""


def _place(data: Any) -> str:
    """The keys that lead to the first text that is not whole, joined by dots."""
    if isinstance(data, str):
        return "" if _is_whole(data) else "."
    if isinstance(data, dict):
        for key in data:
            if isinstance(key, str) and not _is_whole(key):
                return storable(repr(key))
        items: Any = data.items()
    else:
        items = enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in items:
        if inner := _place(value):
            return f"{key}.{inner}".rstrip(".")
    return ""


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
