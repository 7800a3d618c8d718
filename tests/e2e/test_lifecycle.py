"""Bringing an environment up and taking it down, interrupted and disturbed at every step.

These tests have another environment than the shared one, with the same venv: only its
first test builds one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SETTINGS
from tests.e2e.events import Events
from tests.e2e.folder import Folder, assert_in_step, dag_source
from tests.e2e.machine import assert_nothing_runs, busy_port, command_lines, free_port, run_tool
from tests.e2e.project import ROOT, Command, Project, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def spare(environment: Project) -> Iterator[Project]:
    """Another project, whose environment each test brings up and down as it likes."""
    home = Path(tempfile.mkdtemp(prefix="windsock-e2e-spare-")).resolve()
    port = str(free_port())
    variables = {**SETTINGS, "INVOKE_WINDSOCK_LOCAL_PORT": port}
    # As a person has it, unlike the shared environment: new DAGs are paused.
    variables["INVOKE_WINDSOCK_RUN_SCHEDULES"] = "false"
    project = Project(home=home, variables=variables)
    Folder(project).restore()
    wipe(project, environment)
    try:
        yield project
    finally:
        project.close()
        down = project.invoke("down", "--volumes")
        shutil.rmtree(home, ignore_errors=True)
        assert down.returncode == 0, down.stderr
        assert_nothing_runs(project)


def wipe(project: Project, environment: Project) -> None:
    """Take everything away but the venv, which is the shared environment's."""
    project.close()
    done = project.invoke("down", "--volumes")
    assert done.returncode == 0, done.stderr
    project.state.mkdir(mode=0o700)
    (project.state / "venv").symlink_to(environment.state / "venv")


@pytest.fixture
def fresh(spare: Project, environment: Project) -> Project:
    """The other project with nothing but a venv."""
    wipe(spare, environment)
    return spare


def assert_down(project: Project) -> None:
    assert_nothing_runs(project)
    status = project.invoke("status")
    assert status.returncode == 3
    assert "nothing is up" in status.stdout


# --- interrupted ----------------------------------------------------------------------------------


def starting_postgres(up: Command, _: Project) -> None:
    up.wait_for("Airflow's venv")


def migrating(up: Command, project: Project) -> None:
    def runs() -> bool:
        return any(" db migrate" in line for line in command_lines(project))

    eventually(runs, f"the database is being migrated\n{up.text()}", every=0.02)


def starting_airflow(up: Command, _: Project) -> None:
    up.wait_for("database migrated", timeout=120)


PHASES: list[Callable[[Command, Project], None]] = [starting_postgres, migrating, starting_airflow]


def test_a_dry_run_says_what_up_would_do_and_writes_nothing(
    tmp_path: Path, environment: Project
) -> None:
    new = Project(home=tmp_path, variables=SETTINGS)
    new.dags.mkdir()
    planned = new.invoke("up", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [line.split()[0] for line in planned.stdout.splitlines()] == ["make", "make", "start"]
    assert not new.state.exists()

    def written() -> dict[str, int]:
        files = [environment.state / "ports.json", *(environment.state / "run").rglob("*.json")]
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = written()
    planned = environment.invoke("up", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "already up" in planned.stderr
    assert {line.split()[0] for line in planned.stdout.splitlines()} == {"there"}
    assert written() == before


def test_up_that_is_interrupted_in_any_phase_leaves_nothing_running(fresh: Project) -> None:
    for phase in PHASES:  # each goes on where the one before was interrupted
        with fresh.start("up") as up:
            phase(up, fresh)
            up.interrupt()
            assert up.end() == 130, up.text()
            up.wait_for("interrupted")
            assert not any("Traceback" in line for line in up.lines), up.text()
        assert_down(fresh)

    # It has no variables yet: they are imported before the first parse counts.
    top = "from airflow.sdk import Variable\nTASK = Variable.get('supplier_terms')[2:9]"
    Folder(fresh).write("reader.py", dag_source("reader", top=top, task_id="TASK"))
    try:
        assert "✗" not in fresh.up().stderr
        assert_in_step(fresh, dags=["reader"])
        assert all(dag.paused for dag in fresh.airflow.dags())
    finally:
        (fresh.dags / "reader.py").unlink()


def test_up_that_is_killed_in_any_phase_is_done_by_the_next_one(fresh: Project) -> None:
    for phase in PHASES:
        with fresh.start("up", "--detach") as up:
            phase(up, fresh)
            up.kill()
            assert up.end() == -signal.SIGKILL

    fresh.up()
    assert_in_step(fresh)
    assert fresh.invoke("down").returncode == 0
    assert_down(fresh)


def test_a_venv_whose_making_was_killed_or_interrupted_is_built_anew(tmp_path: Path) -> None:
    project = Project(home=tmp_path)
    project.dags.mkdir()
    (project.dags / "trade.py").write_text(dag_source("trade"))

    def wait_until_installing(up: Command) -> None:
        def installing() -> bool:
            lines = command_lines(project)
            return up.process.poll() is None and any(" pip install " in line for line in lines)

        eventually(installing, f"packages are being installed\n{up.text()}", every=0.02)

    with project.start("up") as up:
        wait_until_installing(up)
        up.interrupt()
        assert up.end() == 130
    assert_nothing_runs(project)
    with project.start("up") as up:
        wait_until_installing(up)
        up.kill()  # what it had started goes on for a while
        up.end()
    assert not list(project.state.glob("venv/*/.complete"))

    check = project.invoke("dags.check")

    assert check.returncode == 0, check.stderr
    assert "Airflow's venv: installed" in check.stderr
    assert_nothing_runs(project)
    [venv] = (project.state / "venv").glob("[!.]*")  # and nothing of the others
    assert (venv / ".complete").exists()


# --- up, next to others ---------------------------------------------------------------------------


def test_of_two_ups_at_once_one_says_that_the_other_is_at_it(fresh: Project) -> None:
    with fresh.start("up", "--detach") as first:
        first.wait_for("Airflow's venv")

        second = fresh.invoke("up", "--detach")

        assert second.returncode == 3
        assert f"(pid {first.process.pid}) is bringing this environment up" in second.stderr
        assert first.end(timeout=120) == 0, first.text()
    assert_in_step(fresh)

    for _ in range(2):  # `down` is down, however often it is said
        assert fresh.invoke("down").returncode == 0
        assert_down(fresh)
    assert fresh.state.exists()


def test_down_ends_nothing_that_is_not_windsocks_own(spare: Project) -> None:
    # As docs/testing.md offers it, a user has named the environment in a variable of the shell from
    # which an editor was started in the state folder: it is no business of ours.
    variables = {**os.environ, "WINDSOCK_STATE": str(spare.state)}
    command = [sys.executable, "-c", "input()", str(spare.state)]
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, cwd=spare.state) as editor:
        try:
            assert spare.invoke("down").returncode == 0
            assert editor.poll() is None, "the editor was ended"
        finally:
            editor.communicate(b"\n")


def test_a_busy_port_is_told_and_another_one_taken(spare: Project) -> None:
    with busy_port() as port:
        up = spare.up(INVOKE_WINDSOCK_LOCAL_PORT=str(port))

        taken = int(spare.model.url.rsplit(":", 1)[1])
        assert taken != port
        assert re.search(
            rf"port {port} is busy \(pid {os.getpid()}, .*\): using {taken}", up.stderr
        )
    # It keeps that port, although the first one is free again: bookmarks stay good.
    again = spare.up(INVOKE_WINDSOCK_LOCAL_PORT=str(port))
    assert "already up" in again.stderr
    assert spare.model.url.endswith(f":{taken}")

    with spare.start("sync") as terminal:
        terminal.wait_for("watching")
        assert spare.invoke("down").returncode == 0
        terminal.wait_for("the environment was stopped")
        assert terminal.end() == 0
    assert_down(spare)


def test_up_in_the_foreground_shows_saves_and_stops_with_ctrl_c(spare: Project) -> None:
    folder = Folder(spare)
    folder.write("broken.py", dag_source("broken", top="import no_such_package"))
    with spare.start("up") as up:
        up.wait_for(r"✗ \S*/dags/broken\.py:3  ModuleNotFoundError", timeout=120)
        up.wait_for("watching for saves")
        folder.write("trade.py", dag_source("trade"))
        up.wait_for(r"✓ \S*/dags/trade\.py → trade \(1 task\)")

        up.interrupt()

        assert up.end() == 0, up.text()
        assert not any("Traceback" in line for line in up.lines), up.text()
    assert_down(spare)
    folder.restore()


def test_up_in_the_foreground_that_is_killed_leaves_its_environment_usable(spare: Project) -> None:
    folder = Folder(spare)
    with spare.start("up") as up:
        up.wait_for("watching for saves", timeout=120)
        up.kill()
        up.end()
    folder.save("trade.py", dag_source("trade"))
    assert_in_step(spare, dags=["trade"])
    again = spare.up()
    assert "already up" in again.stderr
    folder.restore()
    assert_in_step(spare)


def test_what_is_not_synced_before_up_is_told_by_whatever_comes_later(spare: Project) -> None:
    assert spare.invoke("down").returncode == 0
    folder = Folder(spare)
    (spare.home / "far.py").write_text(dag_source("far"))
    (spare.dags / "far.py").symlink_to(spare.home / "far.py")
    os.mkfifo(spare.dags / "pipe")
    Path(os.fsdecode(os.fsencode(spare.dags) + b"/caf\xe9.py")).write_text(dag_source("cafe"))
    told = [
        "/dags/far.py is not synced: it is a link that leads outside the folder",
        "/dags/pipe is not synced: it is no file",
        r"/dags/caf\xe9.py is not synced: its name is not UTF-8",
    ]
    try:
        up = spare.up()
        assert [up.stderr.count(line) for line in told] == [1, 1, 1], up.stderr
        status = spare.invoke("status")
        assert status.returncode == 0, status.stdout
        assert [status.stdout.count(line) for line in told] == [1, 1, 1], status.stdout
        assert "in step with the folder, but 3 paths are not synced" in status.stdout

        folder.write(".windsockignore", b"caf\xe9.py\n")
        folder.settle()
        with spare.start("sync") as terminal:
            for line in [*told, "/dags/.windsockignore is not synced: the rules stay as they were"]:
                terminal.wait_for(re.escape(line))
            terminal.interrupt()
            assert terminal.end() == 0, terminal.text()
    finally:
        folder.restore()
        (spare.home / "far.py").unlink()
    assert_in_step(spare)
    assert "not synced" not in spare.invoke("status").stdout


# --- the disk -------------------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A disk of one megabyte at `path`."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_tool("mount", "-t", "tmpfs", "-o", "size=1m", "windsock-test", str(path))
    try:
        yield
    finally:
        run_tool("umount", "--lazy", str(path))


@pytest.mark.skipif(
    os.geteuid() != 0,
    reason="only root can mount a small disk; test_faults.py limits the agent's files instead",
)
def test_a_full_disk_keeps_the_last_state_and_is_told(fresh: Project) -> None:
    folder = Folder(fresh)
    store = fresh.state / "store"
    with small_disk(store):
        fresh.up()
        folder.save("trade.py", dag_source("trade", ["a"]))
        with fresh.start("sync") as terminal, Events(fresh) as events:
            terminal.wait_for("watching")
            folder.write("corner_shop/large.bin", os.urandom(2 * 1024 * 1024))
            told = events.wait_for(lambda event: event["type"] == "refused", "the disk is full")
            assert told["code"] == "no_space"
            terminal.wait_for("the save could not be stored: .*(full|space)")
            assert fresh.airflow.tasks("trade") == ["a"]

            folder.delete("corner_shop/large.bin")
            folder.save("trade.py", dag_source("trade", ["a", "b"]))
            assert_in_step(fresh, dags=["trade"])
        folder.restore()
        assert fresh.invoke("down").returncode == 0


# --- ci -------------------------------------------------------------------------------------------


def test_ci_brings_up_tests_and_takes_down_with_one_exit_code(
    spare: Project, tmp_path: Path
) -> None:
    assert spare.invoke("down").returncode == 0
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(ROOT / "tests" / "dags" / "test_delivery.py", tests)
    tests.joinpath("test_failing.py").write_text("def test_that_fails():\n    assert not 'good'\n")
    report = tmp_path / "report.xml"

    done = spare.invoke("ci", "--junit", str(report), INVOKE_WINDSOCK_TESTS=str(tests))

    assert done.returncode == 1, done.stdout + done.stderr
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - our own file
    failed = [case.attrib["name"] for case in cases if case.find("failure") is not None]
    assert failed == ["test_that_fails"]
    assert len(cases) > 1
    assert_down(spare)
