from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.contract.airflow.conftest import DAG_IDS

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.model import Environment

pytestmark = pytest.mark.e2e

TESTS = """
import pytest

def test_shapes(airflow):
    run = airflow.run("contract_shapes", conf={"day": "2026-01-01"}, timeout=60)
    assert run.state == "success"
    assert run.task("number").xcom() == 3
    assert "loaded three rows" in run.task("number").logs()
    assert run.task("pair").xcom() == (1, 2)
    assert run.task("nothing").xcom() is None
    assert run.task("flaky").attempts == 2
    assert "ValueError: the first try fails" in run.task("flaky").logs(1)
    assert [task.xcom() for task in run.task("square").mapped] == [1, 4, 9]
    assert run.task("square", map_index=1).xcom() == 4
    consumed = airflow.wait_for_run("contract_consumer", after=run, timeout=60)
    assert consumed.task("consume").xcom() == "consumed"

def test_same_dag_again(airflow):
    assert airflow.run("contract_failing").state == "failed"

def test_fails(airflow):
    assert airflow.run("contract_failing").state == "success"

def test_too_slow(airflow):
    airflow.run("contract_endless", timeout=3)

def test_left_running(airflow):
    airflow.trigger("contract_endless")

def test_misspelt(airflow):
    airflow.run("contract_shape")
"""

COUNTING = """
import pytest

@pytest.mark.parametrize("time", ["first", "second", "third"])
def test_own(airflow, time):
    airflow.unpause("contract_counter")
    run = airflow.run("contract_producer")
    assert airflow.wait_for_run("contract_counter", after=run).task("count").xcom() == 1
    # What no run of the counter consumes is not for the next test either.
    airflow.api.pause("contract_counter", paused=True)
    airflow.run("contract_producer")
"""


@pytest.fixture
def state(real_environment: Environment, tmp_path: Path) -> Path:
    real_environment.save(tmp_path)
    return tmp_path


def test_tests_as_a_user_writes_them_in_parallel(
    state: Path, real_airflow: Airflow, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_contract.py").write_text(TESTS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-n", "2", f"--windsock-state={state}"),
            *("--junitxml=report.xml", "test_contract.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 3 passed" in done.stdout
    for expected in (
        "DAG run contract_failing",
        "explode",
        "RuntimeError: boom",
        "not finished after 3 s: sleep",
        "Did you mean contract_shapes",
    ):
        assert expected in done.stdout
    assert "windsock.run_url" in (tmp_path / "report.xml").read_text()
    ours = [run for dag_id in DAG_IDS for run in real_airflow.runs(dag_id)]
    left = [run for run in ours if run.run_id.startswith("windsock__test_")]
    assert [run.run_id for run in left if not run.finished] == []
    assert {run.run_id.split("__")[1] for run in left} == {"test_fails", "test_too_slow"}
    for run in left:  # those of failed tests are kept for a look
        real_airflow.delete_run(run.dag_id, run.run_id)


@pytest.mark.usefixtures("real_airflow")
def test_each_test_sees_its_own_asset_events_only(state: Path, tmp_path: Path) -> None:
    (tmp_path / "test_counting.py").write_text(COUNTING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", f"--windsock-state={state}", "test_counting.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
