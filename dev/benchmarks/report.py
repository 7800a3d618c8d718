"""What the benchmarks share: samples, targets, the machine, and how they are shown."""

from __future__ import annotations

import io
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.terminal.console import Console

OURS = "windsock"
"""The system that the others are compared with."""

NOTHING = "-"
"""An empty cell."""

WIDE = 240
"""Columns the table may use: it is read in a file as often as on a terminal."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What DESIGN.md, "Numbers to reach", asks for; None where it asks for nothing.

    Attributes:
        p50: The median must not be above it.
        p95: Nor the 95th percentile above this.
    """

    p50: float | None = None
    p95: float | None = None

    def met(self, measurement: Measurement) -> bool:
        """Whether a measurement stays within it. A failed sample never does."""
        if measurement.failures or not measurement.samples:
            return False
        return (self.p50 is None or measurement.p50 <= self.p50) and (
            self.p95 is None or measurement.p95 <= self.p95
        )

    def words(self, unit: str) -> str:
        """For the table, for example `p50 ≤ 0.25 s`."""
        limits = {"p50": self.p50, "p95": self.p95}
        return ", ".join(
            f"{name} ≤ {limit:g} {unit}" for name, limit in limits.items() if limit is not None
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The samples of one thing in one system.

    Attributes:
        what: For example `edit → new structure`.
        system: `OURS` or the name of a peer.
        samples: In `unit`, in the order they were taken.
        unit: Of the samples.
        target: Of ours.
        failures: Why samples are missing: a timeout is a failure, not a long sample.
    """

    what: str
    system: str
    samples: tuple[float, ...]
    unit: str = "s"
    target: Target | None = None
    failures: tuple[str, ...] = ()

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The 95th percentile, interpolated between samples; of one sample, that sample."""
        if len(self.samples) == 1:
            return self.samples[0]
        return statistics.quantiles(self.samples, n=20, method="inclusive")[-1]

    def as_json(self, baseline: Measurement | None) -> dict[str, Any]:
        """Everything, for a script.

        Args:
            baseline: The same thing in our system, if it was measured.
        """
        values: dict[str, Any] = {
            "what": self.what,
            "system": self.system,
            "unit": self.unit,
            "n": len(self.samples),
            "samples": list(self.samples),
            "failures": list(self.failures),
        }
        if self.samples:
            values |= {
                "p50": self.p50,
                "p95": self.p95,
                "min": min(self.samples),
                "max": max(self.samples),
                "times_ours": ratio(self, baseline),
            }
        if self.target is not None:
            values["target"] = {"p50": self.target.p50, "p95": self.target.p95}
            values["met"] = self.target.met(self)
        return values


def ratio(peer: Measurement, ours: Measurement | None) -> float | None:
    """How many times our median a peer's is; None where there is nothing to compare."""
    if ours is None or peer.system == ours.system or not (peer.samples and ours.samples):
        return None
    return peer.p50 / ours.p50 if ours.p50 else None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when it was measured.

    Attributes:
        cores: That this process may use.
        memory_gib: Of the machine.
        system: The kernel and the architecture.
        python: The version that runs windsock.
        airflow: The version that was measured.
        date: When it began (UTC).
        load: The load averages of 1, 5 and 15 minutes before it began: a busy machine shows.
    """

    cores: int
    memory_gib: float
    system: str
    python: str
    airflow: str
    date: str
    load: tuple[float, ...]

    @classmethod
    def this(cls, *, airflow: str) -> Machine:
        """This machine, now."""
        return cls(
            cores=_usable_cores(),
            memory_gib=round(psutil.virtual_memory().total / 1024**3, 1),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            airflow=airflow,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            load=tuple(round(value, 2) for value in os.getloadavg()),
        )

    def words(self) -> str:
        """One line."""
        load = " ".join(f"{value:g}" for value in self.load)
        return (
            f"{self.cores} cores, {self.memory_gib:g} GiB, {self.system}; Python {self.python}, "
            f"Airflow {self.airflow}; {self.date}; load before: {load}"
        )


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux only.
        return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A further table below the measurements.

    Attributes:
        title: What it is.
        heading: Of its columns.
        rows: A cell for each column; None for an empty cell.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """Its rows as mappings."""
        rows = [dict(zip(self.heading, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows}

    def as_text(self) -> str:
        """Its title and the table."""
        return f"{self.title}\n\n{_aligned(self.heading, [_cells(row) for row in self.rows])}"


def _cells(row: tuple[str | float | None, ...]) -> tuple[str, ...]:
    return tuple(NOTHING if cell is None else _plain(cell) for cell in row)


def _plain(cell: str | float) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


@dataclass
class Report:
    """All measurements of one run of a benchmark.

    Attributes:
        benchmark: Its name.
        machine: Where it ran.
        measurements: In the order they are shown.
        listings: Shown below them.
        notes: What a reader of the numbers must know.
    """

    benchmark: str
    machine: Machine
    measurements: list[Measurement] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console, *, as_json: bool) -> int:
        """Print it on stdout.

        Returns:
            An exit code: 1 if a sample of windsock failed. A missed target is no failure.
        """
        if as_json:
            console.json(self.as_json())
        else:
            console.write(self.as_text())
        return int(any(item.failures for item in self.measurements if item.system == OURS))

    def as_json(self) -> dict[str, Any]:
        """Everything, for a script."""
        return {
            "benchmark": self.benchmark,
            "machine": asdict(self.machine),
            "measurements": [item.as_json(self._ours(item)) for item in self.measurements],
            "listings": [listing.as_json() for listing in self.listings],
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """The machine, a table in Markdown for each unit, the failures, and the notes."""
        units = list(dict.fromkeys(item.unit for item in self.measurements))
        parts = [self.machine.words(), *(self._table(unit) for unit in units)]
        failures = [
            f"FAILED {item.what} ({item.system}): {failure}"
            for item in self.measurements
            for failure in item.failures
        ]
        listings = [listing.as_text() for listing in self.listings]
        return "\n\n".join([*parts, *failures, *listings, *self.notes])

    def _ours(self, item: Measurement) -> Measurement | None:
        same = [other for other in self.measurements if other.what == item.what]
        return next((other for other in same if other.system == OURS), None)

    def _table(self, unit: str) -> str:
        heading = (f"what ({unit})", "system", "p50", "p95", "min", "max", "n", "of ours", "target")
        items = [item for item in self.measurements if item.unit == unit]
        whats = list(dict.fromkeys(item.what for item in items))
        return _aligned(
            heading,
            [self._row(item) for what in whats for item in items if item.what == what],
        )

    def _row(self, item: Measurement) -> tuple[str, ...]:
        numbers: tuple[str, ...] = (NOTHING,) * 4
        if item.samples:
            values = (item.p50, item.p95, min(item.samples), max(item.samples))
            numbers = tuple(_number(value, item.unit) for value in values)
        times = ratio(item, self._ours(item))
        verdict = ""
        if item.target is not None:
            verdict = f"{item.target.words(item.unit)}: " + (
                "met" if item.target.met(item) else "missed"
            )
        return (
            item.what,
            item.system,
            *numbers,
            str(len(item.samples)),
            f"{times:.1f} x" if times is not None else "",
            verdict,
        )


def _number(value: float, unit: str) -> str:
    return f"{value:.3f}" if unit == "s" else f"{value:.1f}"


def _aligned(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand below each other in a terminal, too."""
    # Only when something is shown: rich takes its time.
    from rich import box  # noqa: PLC0415
    from rich.console import Console as RichConsole  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.MARKDOWN)
    for title, cells in zip(heading, zip(*rows, strict=True), strict=True):
        numeric = all(not cell or cell[0].isdigit() or cell == NOTHING for cell in cells)
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    RichConsole(file=text, width=WIDE, color_system=None, markup=False).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)
