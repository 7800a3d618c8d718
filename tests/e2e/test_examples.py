"""The DAG tests that a user writes: `invoke test`, what a failure shows, and `--affected`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.e2e.folder import EXAMPLE_DAGS, dag_source
from tests.e2e.machine import component_pid, kill_9, run_tool
from tests.e2e.project import ROOT, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Command, Project

pytestmark = pytest.mark.e2e

FAILING = """
def test_the_price_is_right(airflow):
    run = airflow.run("price")
    assert run.state == "success"
"""

STATE = """
def test_{dag}(airflow):
    assert airflow.run("{dag}").state == "success"
"""


def test_every_example_passes_its_tests_and_junit_tells_so(
    environment: Project, tmp_path: Path
) -> None:
    before = {(run.dag_id, run.run_id) for run in environment.airflow.runs()}
    report = tmp_path / "junit.xml"

    done = environment.invoke("test", "--junit", str(report), "--parallel", "2")

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - our own file
    written = {path.stem for path in (ROOT / "tests" / "dags").glob("test_*.py")}
    assert {case.attrib["classname"].rsplit(".", 1)[-1] for case in cases} == written
    assert not [case for case in cases if len(case.findall("failure") + case.findall("error"))]
    properties = {
        item.attrib["name"]: item.attrib["value"]
        for case in cases
        for item in case.iter("property")
    }
    assert properties["windsock.run_url"].startswith(environment.model.url)
    # Every example is run by a test, and no run of a test is left over.
    used = {
        item.attrib["value"]
        for case in cases
        for item in case.iter("property")
        if item.attrib["name"] == "windsock.dag_id"
    }
    assert used | {"restock"} >= EXAMPLE_DAGS
    after = {(run.dag_id, run.run_id) for run in environment.airflow.runs()}
    assert after <= before


def test_a_failing_test_shows_the_log_of_the_task_and_the_address_of_the_run(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    body = "print('the price is', 1 / 0)"
    folder.write("price.py", dag_source("price", {"fetch": "return 1", "compute": body}))
    test = tmp_path / "test_price.py"
    test.write_text(FAILING)

    done = environment.invoke("test", str(test))

    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stdout
    number = (folder.path / "price.py").read_text().splitlines().index(f"        {body}") + 1
    assert re.search(rf"price\.py\", line {number}", done.stdout)
    assert f"{environment.model.url}/dags/price/runs/" in done.stdout
    assert re.search(r"fetch\s.*success", done.stdout)
    assert re.search(r"compute\s.*failed", done.stdout)
    [run] = environment.airflow.runs("price")
    assert run.finished  # it stays, to be looked at


def test_a_dag_that_does_not_import_fails_its_test_with_the_traceback(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    folder.write("price.py", dag_source("price", top="import no_such_package"))
    test = tmp_path / "test_price.py"
    test.write_text(FAILING)

    done = environment.invoke("test", str(test))

    assert done.returncode == 1
    assert "No module named 'no_such_package'" in done.stdout
    assert "price.py" in done.stdout


def test_tests_can_be_chosen_by_name(environment: Project) -> None:
    done = environment.invoke("test", "-k", "joins_ and never_matches")
    assert done.returncode == 5, done.stdout  # pytest's own: nothing was collected
    assert "no tests ran" in done.stdout or "deselected" in done.stdout


def test_only_what_a_change_affects_is_tested(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    """As in a repository of DAGs and their tests."""
    tests = tmp_path / "tests"
    tests.mkdir()
    folder.write("corner_shop/names.py", "NAME = 'old'\n")
    uses = "from corner_shop.names import NAME"
    for dag, top in (("direct", ""), ("helped", uses), ("stranger", "")):
        folder.write(f"{dag}.py", dag_source(dag, top=top))
        tests.joinpath(f"test_{dag}.py").write_text(STATE.format(dag=dag))
    for place in (folder.path, tmp_path):
        git = ["-C", str(place), "-c", "user.name=A. U. Thor", "-c", "user.email=a@example.invalid"]
        run_tool("git", *git, "init", "-q")
        run_tool("git", *git, "add", "--all")
        run_tool("git", *git, "commit", "-q", "-m", "first")

    def affected() -> list[str]:
        """Run pytest as `invoke test --affected HEAD` does; the tests that ran."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"),
                *("--rootdir", str(tmp_path), "-c", os.devnull, f"--confcutdir={tmp_path}"),
                *(f"--windsock-state={environment.state}", "--affected=HEAD", str(tests)),
            ],
            cwd=tmp_path,
            env=environment.environ(PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in {0, 5}, done.stdout
        return sorted(re.findall(r"::test_(\w+) PASSED", done.stdout))

    assert affected() == []
    folder.write("direct.py", dag_source("direct", ["other"]))
    assert affected() == ["direct"]
    folder.write("corner_shop/names.py", "NAME = 'new'\n")
    assert affected() == ["direct", "helped"]


def test_nothing_affected_is_a_success(environment: Project) -> None:
    head = environment.invoke("test", "--affected", "no-such-ref")
    assert head.returncode not in {0, 1}
    assert "no-such-ref" in head.stdout + head.stderr


WATCHED = """
import pathlib, time

def test_how_many_tasks_there_are(airflow):
    runs = pathlib.Path(__file__).with_name("runs.txt")
    with runs.open("a") as file:
        file.write(f"{len(airflow.run('counted').tasks)} ")
    while not pathlib.Path(__file__).with_name("go").exists():
        time.sleep(0.05)
"""


def test_watching_runs_the_tests_for_the_newest_state_after_saves_and_edits_of_tests(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    folder.save("counted.py", dag_source("counted", ["a"]))
    test = tmp_path / "test_counted.py"
    test.write_text(WATCHED)

    def tested(expected: str) -> None:
        def runs() -> str:
            return (tmp_path / "runs.txt").read_text() if (tmp_path / "runs.txt").exists() else ""

        # Pytest starts, and a DAG runs: that is more than one event.
        eventually(lambda: len(runs()) >= len(expected), f"{expected}is tested", timeout=120)
        assert runs() == expected

    def waits(watching: Command, times: int) -> None:
        def said() -> bool:
            return sum("waiting for the next save" in line for line in watching.lines) == times

        eventually(said, f"it waits for the {times}. time", timeout=120)

    with environment.start("test", "--watch", str(test)) as watching:
        tested("1 ")
        for tasks in (["a", "b"], ["a"], ["a", "b"], ["a", "b", "c"]):  # The first run goes on.
            folder.save("counted.py", dag_source("counted", tasks))
        (tmp_path / "go").touch()
        tested("1 3 ")
        waits(watching, 2)
        test.write_text(WATCHED.replace("how_many", "all"))
        tested("1 3 3 ")
        waits(watching, 3)
        kill_9(component_pid(environment, "sync"))
        folder.write("counted.py", dag_source("counted", ["a", "b"]))
        tested("1 3 3 2 ")
        waits(watching, 4)
        watching.interrupt()
        assert watching.end() == 0
        assert "Traceback" not in watching.text()
    assert environment.airflow.runs("counted") == []
