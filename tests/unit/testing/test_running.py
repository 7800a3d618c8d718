from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock
from tests.unit.testing.fake_control import FakeControl
from windsock.errors import ConfigurationError, DagError, DeadlineExceeded, EnvironmentFailure
from windsock.events import ComponentFailing, to_json
from windsock.testing.running import RunningAirflow

if TYPE_CHECKING:
    from pathlib import Path


PATIENCE = 240.0


class Bench:
    """A `RunningAirflow` on a fake."""

    def __init__(
        self, folder: Path, *dags: FakeDag, test_name: str = "test_sales", **options: Any
    ) -> None:
        self.fake = FakeAirflow(*dags)
        self.fake.has_wait = False
        self.control = FakeControl(self.fake)
        self.clock = VirtualClock()
        self.started: list[str] = []
        self.folder = folder
        self.airflow = RunningAirflow(
            self.fake.client(self.clock),
            control=self.control,
            dags_folder=folder,
            test_name=test_name,
            patience=PATIENCE,
            clock=self.clock,
            sleep=self.clock.sleep,
            on_run=lambda run: self.started.append(run.dag_id),
            **options,
        )


SALES = FakeDag("sales", tasks=[FakeTask("load", xcom=3)])


def test_a_run_is_named_after_its_test_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"), test_name="test_sales[a b/ü]")
    first, second = (bench.airflow.run("sales", conf={"day": 1}) for _ in range(2))
    assert re.fullmatch(r"windsock__test_sales-a-b-__[0-9a-f]{32}", first.run_id)
    assert first.run_id != second.run_id
    assert first.conf == {"day": 1}
    assert bench.started == ["sales", "sales"]


def test_all_that_runs_waits_at_the_barrier_first_as_long_as_the_setting_says(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    bench.airflow.run("sales")
    run = bench.airflow.trigger("sales")
    bench.airflow.unpause("sales")
    with pytest.raises(DeadlineExceeded):
        bench.airflow.wait_for_run("sales", after=run, timeout=1)
    assert bench.control.barriers == [PATIENCE] * 4


def test_a_component_that_fails_again_and_again_ends_the_wait(tmp_path: Path) -> None:
    event = ComponentFailing(component="triggerer", message="triggerer ends again", hint="")
    bench = Bench(tmp_path, FakeDag("sales", looks=10**9))
    bench.control.troubles.append(to_json(event))
    with pytest.raises(DeadlineExceeded):
        bench.airflow.run("sales", timeout=20)
    before = bench.clock.now
    bench.control.troubles.append(
        to_json(replace(event, component="scheduler", message="it ends again"))
    )
    with pytest.raises(EnvironmentFailure, match="it ends again"):
        bench.airflow.run("sales", timeout=600)
    assert bench.clock.now - before < 60
    assert bench.airflow.clean_up(keep_finished=False) == []


def test_a_triggerer_that_ends_again_and_again_is_the_reason_that_a_deferred_task_waits(
    tmp_path: Path,
) -> None:
    event = ComponentFailing(component="triggerer", message="it ends again", hint="read its log")
    dag = FakeDag("sales", looks=10**9, tasks=[FakeTask("load", state="deferred")])
    bench = Bench(tmp_path, dag)
    bench.control.troubles.append(to_json(event))
    with pytest.raises(DeadlineExceeded) as caught:
        bench.airflow.run("sales", timeout=20)
    assert caught.value.hint.splitlines()[:2] == ["it ends again", "read its log"]


def test_a_paused_dag_is_held_until_the_test_has_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales", paused=True), FakeDag("consumer", paused=True))
    run = bench.airflow.run("sales")
    assert run.state == "success"
    bench.airflow.unpause("consumer")
    assert bench.control.holds[0] == ("sales", run.run_id)
    assert bench.control.holds[1][0] == "consumer"
    assert bench.airflow.clean_up(keep_finished=True) == []
    assert bench.control.holds == []


@pytest.mark.parametrize("end", [KeyboardInterrupt(), EnvironmentFailure("the sync is away")])
def test_what_ends_in_the_middle_of_a_hold_is_cleaned_up(
    tmp_path: Path, end: BaseException
) -> None:
    bench = Bench(tmp_path, FakeDag("sales", paused=True))
    hold = bench.control.hold

    def hold_and_end(*arguments: Any, **options: Any) -> bool:
        hold(*arguments, **options)
        raise end

    bench.control.hold = hold_and_end  # type: ignore[method-assign] # the failing edge
    with pytest.raises(type(end)):
        bench.airflow.trigger("sales")
    with pytest.raises(type(end)):
        bench.airflow.unpause("sales")
    assert bench.airflow.clean_up(keep_finished=False) == []
    assert bench.fake.runs == {}
    assert bench.control.holds == []


def broken(folder: Path, file: str) -> str:
    """The traceback of a file whose last line of a message says nothing."""
    return (
        "Traceback (most recent call last):\n"
        '  File "/venv/lib/python3.11/site-packages/airflow/importer.py", line 9, in parse\n'
        "    load()\n"
        f'  File "{folder}/{file}", line 3, in <module>\n'
        "    Config()\n"
        "ValidationError: 1 validation error for Config\n"
        "    For further information visit the documentation\n"
    )


def test_a_dag_whose_file_does_not_import_fails_with_the_authors_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, FakeDag("sales", file="shop.py"))
    bench.fake.import_errors["shop.py"] = broken(tmp_path, "shop.py")
    with pytest.raises(DagError, match=r"sales: its file shop\.py does not import") as caught:
        bench.airflow.run("sales")
    assert caught.value.hint.splitlines() == [
        "shop.py:3  ValidationError: 1 validation error for Config",
        '  File "shop.py", line 3, in <module>',
        "    Config()",
        "    For further information visit the documentation",
    ]
    assert bench.fake.runs == {}


def test_a_new_dag_in_a_broken_file_fails_with_its_traceback(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    (tmp_path / "new.py").write_text('dag_id="returns"')
    bench.fake.import_errors["new.py"] = "NameError: y"
    with pytest.raises(DagError, match=r"returns: its file \S*new\.py does not import"):
        bench.airflow.run("returns")


def test_an_unknown_dag_names_near_ones_and_files_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, FakeDag("sales"), FakeDag("stock"))
    bench.fake.import_errors["other.py"] = broken(tmp_path, "other.py")
    with pytest.raises(DagError, match="there is no DAG 'sale'") as caught:
        bench.airflow.run("sale")
    assert caught.value.hint == (
        "Did you mean sales?\n"
        "other.py:3 does not import: ValidationError: 1 validation error for Config"
    )


def test_an_unknown_dag_names_what_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, FakeDag("sales"))
    bench.control.problems = {"far.py": "it leads outside"}
    with pytest.raises(DagError, match="there is no DAG 'far'") as caught:
        bench.airflow.run("far")
    assert caught.value.hint == "There are: sales.\nfar.py is not synced: it leads outside"


def test_a_dag_whose_file_lost_it_is_unknown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales", stale=True), FakeDag("stock"))
    with pytest.raises(DagError, match="there is no DAG 'sales'"):
        bench.airflow.run("sales")


def test_the_run_that_an_asset_starts_is_found_and_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("producer", starts="consumer"), FakeDag("consumer"))
    run = bench.airflow.run("producer")
    found = bench.airflow.wait_for_run("consumer", after=run)
    assert (found.dag_id, found.state) == ("consumer", "success")


@pytest.mark.parametrize("failures", [3, 7])
def test_a_consumer_that_is_queued_for_a_while_is_waited_for(tmp_path: Path, failures: int) -> None:
    bench = Bench(tmp_path, FakeDag("producer", starts="consumer"), FakeDag("consumer"))
    run = bench.airflow.run("producer")
    # As long as a run of the consumer is queued, Airflow cannot list the events.
    left = [EnvironmentFailure("Airflow failed at GET /assets/events (500)")] * failures
    listed = bench.airflow.api.asset_events

    def fail_at_first(dag_id: str, run_id: str) -> Any:
        if left:
            raise left.pop()
        return listed(dag_id, run_id)

    bench.airflow.api.asset_events = fail_at_first  # type: ignore[method-assign] # the failing edge
    assert bench.airflow.wait_for_run("consumer", after=run).state == "success"


def test_a_consumer_that_stays_queued_does_not_fail_the_test_that_passed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("producer"))
    bench.airflow.run("producer")

    def fail(dag_id: str, run_id: str) -> Any:
        raise EnvironmentFailure(f"Airflow failed at GET /assets/events (500) {dag_id} {run_id}")

    bench.airflow.api.asset_events = fail  # type: ignore[method-assign] # the failing edge
    assert bench.airflow.clean_up(keep_finished=False) == []
    assert bench.fake.runs == {}


def test_a_run_that_no_asset_starts_is_a_failure_that_names_what_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("producer", starts="other"), FakeDag("other"), FakeDag("sales"))
    run = bench.airflow.run("producer")
    with pytest.raises(DeadlineExceeded, match=r"no run of sales within 5 s; it changed an_asset"):
        bench.airflow.wait_for_run("sales", after=run, timeout=5)
    assert bench.clock.now >= 5


def test_waiting_for_a_paused_consumer_fails_at_once(tmp_path: Path) -> None:
    consumer = FakeDag("consumer", paused=True)
    bench = Bench(tmp_path, FakeDag("producer", starts="consumer"), consumer)
    run = bench.airflow.run("producer")
    with pytest.raises(ConfigurationError, match="consumer is paused"):
        bench.airflow.wait_for_run("consumer", after=run)
    bench.airflow.unpause("consumer")
    assert bench.airflow.wait_for_run("consumer", after=run).state == "success"


def test_cleaning_up_deletes_the_runs_and_those_they_started(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("producer", starts="consumer"), FakeDag("consumer"))
    bench.airflow.run("producer")
    assert bench.airflow.clean_up(keep_finished=False) == []
    assert bench.fake.runs == {}


def test_cleaning_up_stops_what_still_runs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("never", looks=10**9))
    run = bench.airflow.trigger("never")
    assert run.state == "running"
    assert bench.airflow.clean_up(keep_finished=True) == []
    assert [run["state"] for run in bench.fake.runs.values()] == ["failed"]
    assert bench.airflow.clean_up(keep_finished=False) == []
    assert bench.fake.runs == {}


def test_cleaning_up_passes_over_what_the_test_deleted_itself(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    run = bench.airflow.run("sales")
    bench.airflow.api.delete_run("sales", run.run_id)
    assert bench.airflow.clean_up(keep_finished=False) == []


def test_cleaning_up_goes_on_after_a_problem_and_names_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"), FakeDag("stock"))
    for dag_id in ("stock", "sales"):
        bench.airflow.run(dag_id)
    delete = bench.airflow.api.delete_run

    def fail_for_sales(dag_id: str, run_id: str) -> None:
        if dag_id == "sales":
            raise DeadlineExceeded("no answer")
        delete(dag_id, run_id)

    bench.airflow.api.delete_run = fail_for_sales  # type: ignore[method-assign] # the failing edge
    (problem,) = bench.airflow.clean_up(keep_finished=False)
    assert problem.startswith("sales windsock__")
    assert [dag_id for dag_id, _ in bench.fake.runs] == ["sales"]


def test_cleaning_up_tries_again_what_fails_for_a_moment(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    bench.airflow.run("sales")
    failures = [EnvironmentFailure("the database is locked")] * 3
    delete = bench.airflow.api.delete_run

    def fail_at_first(dag_id: str, run_id: str) -> None:
        if failures:
            raise failures.pop()
        delete(dag_id, run_id)

    bench.airflow.api.delete_run = fail_at_first  # type: ignore[method-assign] # the failing edge
    assert bench.airflow.clean_up(keep_finished=False) == []
    assert bench.fake.runs == {}


def test_variables_exist_inside_the_block_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    with bench.airflow.variables({"rate": "1.2"}):
        assert bench.fake.objects["variables"]["rate"]["value"] == "1.2"
    assert bench.fake.objects["variables"] == {}


def test_variables_go_even_if_the_block_fails(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    with pytest.raises(ZeroDivisionError), bench.airflow.variables({"rate": "1.2"}):
        raise ZeroDivisionError
    assert bench.fake.objects["variables"] == {}


def test_a_variable_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeDag("sales"))
    with (
        bench.airflow.variables({"rate": "1.2"}),
        pytest.raises(ConfigurationError, match="'rate' exists already"),
        bench.airflow.variables({"rate": "1.3"}),
    ):
        pass
    assert bench.fake.objects["variables"] == {}
