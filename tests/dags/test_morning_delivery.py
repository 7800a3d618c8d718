"""The waiting happens in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


def test_the_triggerer_waits_for_the_van_and_the_crates_come_after_it(
    airflow: RunningAirflow,
) -> None:
    run = airflow.run("morning_delivery")

    assert run.state == "success"
    waiting = run.task("wait_for_van").logs()
    assert "Pausing task as DEFERRED" in waiting  # the worker let go
    assert "Trigger fired event" in waiting  # the triggerer ended it
    assert run.task("unload").xcom() == "12 crates unloaded"
