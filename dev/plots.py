"""Plots of the tables in docs/performance.md, as SVG."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABELS, AXIS, VALUES = 270, 360, 170
"""Widths in pixels: what was measured, the axis of seconds, systems with their medians."""
ROW, GAP, TOP = 18, 10, 62
"""Heights in pixels: one system, the space after one thing that was measured, the head."""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.head { font-weight: 600; }
.scale { font-size: 11px; fill: #6e7781; }
.grid { stroke: #d0d7de; }
.ours { fill: #0969da; stroke: #0969da; }
.peer { fill: #8c959f; stroke: #8c959f; }
line { stroke-width: 1; }
line.ours, line.peer { stroke-width: 3; stroke-opacity: 0.45; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .scale { fill: #8d96a0; }
  .grid { stroke: #3d444d; }
  .ours { fill: #4493f8; stroke: #4493f8; }
  .peer { fill: #9198a1; stroke: #9198a1; }
}
"""


@dataclass(frozen=True)
class Row:
    """One system in a table: seconds."""

    what: str
    system: str
    median: float
    tail: float


def tables(text: str) -> dict[str, list[Row]]:
    """The rows in seconds of each benchmark in docs/performance.md, without the parts of a row."""
    found: dict[str, list[Row]] = {}
    for section in text.split("\n### ")[1:]:
        name = re.match(r"`invoke bench\.(\w+)", section)
        table = re.search(r"^\| what \(s\).*?(?=\n\n)", section, re.MULTILINE | re.DOTALL)
        if name is None or table is None:
            continue
        cells = [[cell.strip() for cell in line.split("|")] for line in table[0].splitlines()[2:]]
        found[name[1]] = [
            Row(what, system, float(median), float(tail))
            for _, what, system, median, tail, *_ in cells
            if ": " not in what
        ]
    return found


def plot(title: str, rows: Sequence[Row]) -> str:
    """A dot at the median of each system and a line to its p95, on a logarithmic axis."""
    low = math.floor(math.log10(min(row.median for row in rows if row.median)))
    high = math.ceil(math.log10(max(row.tail for row in rows)))

    def x(seconds: float) -> float:
        return LABELS + AXIS * (math.log10(max(seconds, 10**low)) - low) / (high - low)

    parts: list[str] = []
    y = TOP
    for number, row in enumerate(rows):
        if number and rows[number - 1].what != row.what:
            y += GAP
        if not number or rows[number - 1].what != row.what:
            parts.append(_text(LABELS - 14, y, row.what, anchor="end"))
        kind = "ours" if row.system == "windsock" else "peer"
        parts += [
            _line(kind, (x(row.median), y), (x(row.tail), y)),
            f'<circle class="{kind}" cx="{x(row.median):.1f}" cy="{y}" r="4.5"/>',
            _text(x(row.tail) + 10, y, f"{row.system} {_seconds(row.median)}"),
        ]
        y += ROW
    grid = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        grid.append(_line("grid", (at, TOP - 14), (at, y - 4)))
        grid.append(_text(at, TOP - 22, f"{10.0**power:g} s", kind="scale", anchor="middle"))
    width, height = LABELS + AXIS + VALUES, y + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            _text(0, 12, title, kind="head"),
            *grid,
            *parts,
            "</svg>\n",
        ]
    )


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}"/>'


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y + 4}" text-anchor="{anchor}">{escape(text)}</text>'


def plots(page: Path) -> dict[str, str]:
    """The SVG of each benchmark on a page, by the name of its file."""
    return {
        f"bench-{name}.svg": plot(f"invoke bench.{name}: median and p95", rows)
        for name, rows in tables(page.read_text(encoding="utf-8")).items()
    }
