"""There is one task for each shelf, and one sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windsock.testing.running import RunningAirflow


def test_each_shelf_is_counted_by_a_task_of_its_own(airflow: RunningAirflow) -> None:
    run = airflow.run("shelf_count", conf={"shelves": ["tea", "salt", "tea", "bread"]})

    assert run.state == "success"
    counts = [task.xcom() for task in run.task("count").mapped]
    assert [count["pieces"] for count in counts] == [31, 0, 31, 14]
    assert run.task("count", map_index=1).xcom() == {"shelf": "salt", "pieces": 0}
    assert run.task("add_up").xcom() == 76


def test_a_shop_without_shelves_has_nothing_in_it(airflow: RunningAirflow) -> None:
    run = airflow.run("shelf_count", conf={"shelves": []})

    assert run.state == "success"
    assert run.task("count").state == "skipped"
    assert run.task("add_up").xcom() == 0
