"""What became of supervised programs: only the supervisor's log tells an end from a stop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

SUPERVISOR_LOG = "supervisor.log"

LAST_WORDS = 12
"""How many lines of the log of a component that fails are shown."""

LINE = re.compile(
    r"(?P<time>\d+-\d+-\d+ \d+:\d+:\d+),\d+ \w+ (?P<what>exited|gave up|spawned|stopped|success): "
    r"'?(?P<name>[\w-]+)'?(?: \((?P<reason>[^;)]*))?"
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a line of the supervisor's log says of a program.

    Attributes:
        name: The program.
        what: `spawned`, `success` (it runs for a while), `stopped` (on purpose), `exited` (by
            itself), or `gave up`: it is not started again.
        reason: Of `exited` and `stopped`, in the supervisor's words: `exit status 1`.
        time: Seconds since the epoch.
    """

    name: str
    what: str
    reason: str
    time: float


def record_of(line: str) -> Record | None:
    """The record of a line; None if it says something else."""
    match = LINE.match(line)
    if match is None:
        return None
    time = datetime.fromisoformat(match["time"]).astimezone().timestamp()
    return Record(name=match["name"], what=match["what"], reason=match["reason"] or "", time=time)
