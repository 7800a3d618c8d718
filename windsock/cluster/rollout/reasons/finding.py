"""What a diagnosis consists of."""

from __future__ import annotations

from dataclasses import dataclass

LINES_HINT = "Above: its last lines."
SILENT_HINT = "It has said nothing."
"""Instead of it, where there are no lines."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that keeps a workload from getting ready.

    Attributes:
        about: What it is about, for example `Pod airflow-scheduler-5c9f-x2x`.
        why: What is wrong, one sentence.
        hint: What to do about it.
        patience: Seconds it must last before it counts as a failure.
        container: Whose last log lines tell more; empty where there are none.
        previous: Whether these are of the container before the present one.
    """

    about: str
    why: str
    hint: str = ""
    patience: float = 0.0
    container: str = ""
    previous: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        """What is the same as long as it lasts: the words of a message may change."""
        return self.about, self.hint
