from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.benchmarks.report import OURS, Listing, Machine, Measurement, Report, Target, ratio
from windsock.terminal.console import Console

MACHINE = Machine(
    cores=2,
    memory_gib=24.0,
    system="Linux 6 x86_64",
    python="3.11.7",
    airflow="3.3.2",
    date="2026-11-22T12:00:00+00:00",
    load=(0.1, 0.2, 0.3),
)


def measurement(
    *samples: float,
    system: str = OURS,
    what: str = "edit",
    target: Target | None = None,
    failures: tuple[str, ...] = (),
) -> Measurement:
    return Measurement(what=what, system=system, samples=samples, target=target, failures=failures)


def report(*measurements: Measurement, listing: Listing | None = None) -> Report:
    return Report(
        "reload",
        MACHINE,
        measurements=list(measurements),
        listings=[listing] if listing else [],
        notes=["a note"],
    )


def shown(what: Report, *, as_json: bool) -> tuple[int, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    code = what.show(Console(data=stdout, status=stderr), as_json=as_json)
    assert stderr.getvalue() == ""
    return code, stdout.getvalue()


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_percentiles_of_a_hundred_even_samples() -> None:
    taken = measurement(*[number / 100 for number in range(101)])
    assert taken.p50 == pytest.approx(0.5)
    assert taken.p95 == pytest.approx(0.95)


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=40))
def test_percentiles_lie_in_order_between_the_extremes(samples: list[float]) -> None:
    taken = measurement(*samples)
    slack = 1e-9
    assert min(samples) - slack <= taken.p50 <= taken.p95 + slack <= max(samples) + 2 * slack


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(p50=0.25), True),
        (Target(p50=0.2), True),
        (Target(p50=0.19), False),
        (Target(p50=0.25, p95=1.0), True),
        (Target(p50=0.25, p95=0.5), False),
        (Target(p95=0.5), False),
    ],
)
def test_a_target_holds_median_and_tail(target: Target, met: bool) -> None:
    assert target.met(measurement(0.1, 0.2, 0.9)) is met


def test_a_failed_sample_misses_every_target() -> None:
    assert not Target(p50=1).met(measurement(0.1, failures=("not seen",)))
    assert not Target(p50=1).met(measurement())


def test_a_peer_is_told_in_multiples_of_ours() -> None:
    ours, peer = measurement(0.2, 0.4), measurement(3.0, system="stock")
    assert ratio(peer, ours) == pytest.approx(10)
    assert ratio(ours, ours) is None
    assert ratio(peer, None) is None
    assert ratio(peer, measurement()) is None
    assert ratio(measurement(system="stock"), ours) is None


def test_table_puts_the_systems_of_one_thing_together_and_judges_ours() -> None:
    _, text = shown(
        report(
            measurement(0.2, 0.3, target=Target(p50=0.25, p95=0.5)),
            measurement(0.5, what="new", target=Target(p50=0.3)),
            measurement(30.5, system="stock"),
        ),
        as_json=False,
    )
    heading, _, *cells = rows(text)
    assert heading[:2] == ["what (s)", "system"]
    assert [row[:2] for row in cells] == [["edit", OURS], ["edit", "stock"], ["new", OURS]]
    assert cells[0][2:7] == ["0.250", "0.295", "0.200", "0.300", "2"]
    assert cells[0][-1] == "p50 ≤ 0.25 s, p95 ≤ 0.5 s: met"
    assert cells[1][-2] == "122.0 x"
    assert cells[2][-1] == "p50 ≤ 0.3 s: missed"


def test_only_a_failure_of_ours_is_an_error() -> None:
    missed = measurement(9.0, target=Target(p50=1))
    assert shown(report(missed), as_json=False)[0] == 0
    assert shown(report(measurement(system="stock", failures=("late",))), as_json=False)[0] == 0
    assert shown(report(measurement(0.1, failures=("late",))), as_json=True)[0] == 1


def test_json_holds_every_sample_and_verdict() -> None:
    listing = Listing(title="idle", heading=("component", "MiB"), rows=(("sync", 41.5),))
    code, text = shown(
        report(
            measurement(0.2, 0.4, target=Target(p50=0.25)),
            measurement(3.0, system="stock"),
            measurement(system="tuned", failures=("late",)),
            listing=listing,
        ),
        as_json=True,
    )
    told = json.loads(text)
    assert code == 0
    assert told["machine"]["cores"] == 2
    assert told["machine"]["load"] == [0.1, 0.2, 0.3]
    ours, stock, tuned = told["measurements"]
    assert ours["samples"] == [0.2, 0.4]
    assert ours["n"] == 2
    assert ours["target"] == {"p50": 0.25, "p95": None}
    assert ours["met"] is False
    assert stock["times_ours"] == pytest.approx(10)
    assert "met" not in stock
    assert tuned["failures"] == ["late"]
    assert "p50" not in tuned
    assert told["listings"] == [{"title": "idle", "rows": [{"component": "sync", "MiB": 41.5}]}]
