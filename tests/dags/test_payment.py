"""A bank that is away is asked again; a stolen card is not, and somebody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


def test_a_payment_survives_a_bank_that_does_not_answer_at_first(airflow: RunningAirflow) -> None:
    run = airflow.run("payment")

    assert run.state == "success"
    assert run.task("charge").attempts == 2
    assert "the bank did not answer" in run.task("charge").logs(try_number=1)
    assert run.task("ship").xcom() == "shipped, 1250 cents paid"
    assert run.task("list_alerts").xcom() == []


def test_a_stolen_card_fails_at_once_and_raises_an_alert(airflow: RunningAirflow) -> None:
    run = airflow.run("payment", conf={"card": "stolen"})

    assert run.state == "failed"
    assert run.task("charge").attempts == 1
    assert run.task("ship").state == "upstream_failed"
    # The task failed, so what its callback did is what counts: a row that a later task could read.
    assert run.task("list_alerts").xcom() == [
        {"task": "charge", "attempt": 1, "message": "stolen card: the card is reported stolen"}
    ]
