"""Exactly one way is taken, and the run goes on after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow

WAYS = ("bicycle", "van", "collect")


@pytest.mark.parametrize(
    ("kilograms", "taken", "answer"),
    [
        (10, "bicycle", "Your order comes by bicycle, within the hour."),
        (11, "van", "Your order comes by van, tomorrow."),
        (501, "collect", "Agreed: the customer comes with a lorry."),
    ],
)
def test_the_weight_decides_how_an_order_travels(
    airflow: RunningAirflow, kilograms: int, taken: str, answer: str
) -> None:
    run = airflow.run("delivery", conf={"kilograms": kilograms})

    assert run.state == "success"
    states = {way: run.task(way).state for way in WAYS}
    assert states == {way: "success" if way == taken else "skipped" for way in WAYS}
    assert run.task("confirm").xcom() == answer
