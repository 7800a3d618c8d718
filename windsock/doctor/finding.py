"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        level: `ok`, `warning` (windsock works, something is worth knowing) or `problem`.
        what: What was found.
        advice: What to do about it; may be empty.
        check: The name of the check.
    """

    level: str
    what: str
    advice: str = ""
    check: str = ""


def plural(count: int, one: str, more: str = "") -> str:
    """A count and its noun, for example `1 file` and `2 files`."""
    return f"{count} {one if count == 1 else more or one + 's'}"
