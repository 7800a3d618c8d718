from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import httpx
import pytest

from tests.unit.fakes import FakeSync, KeptConsole, environment
from windsock.airflow import health
from windsock.airflow.health import AIRFLOW, GLANCE_SECONDS
from windsock.config import load
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure
from windsock.local.components import CONTROL_SOCKET, PORTS, Layout
from windsock.local.ports import PortChoice
from windsock.local.postgres import Postgres
from windsock.local.processes import ProcessState
from windsock.local.secrets import Secrets
from windsock.local.venv import Venv
from windsock.model import ENVIRONMENT_FILE
from windsock.targets.local.checker import LocalChecker
from windsock.targets.local.operations import LocalOperations
from windsock.targets.local.parts import ALL, LocalParts
from windsock.targets.local.target import LocalTarget
from windsock.targets.plan import Action, PlannedStep, run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from windsock.local.programs import Program
    from windsock.targets.base import Target


def conforms(target: LocalTarget) -> Target:
    """For the type checker: it has all that a target has."""
    return target


class FakeSupervisor:
    """Records what it is told; `states` are what the test sets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.calls: list[str] = []
        self.is_alive = True
        self.named: dict[str, str] = dict.fromkeys(ALL, "RUNNING")
        self.dead: Exception | None = None
        self.since = datetime.now(UTC) - timedelta(minutes=1)
        self.on_shutdown: Callable[[], None] = lambda: None

    def alive(self) -> bool:
        return self.is_alive

    def apply(self, programs: Iterable[Program]) -> None:
        self.calls.append("apply")
        for program in programs:
            path = self._folder / program.description_file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")

    def start(self, *names: str) -> None:
        self.calls.append(f"start {' '.join(names)}")

    def stop(self, *names: str) -> None:
        self.calls.append(f"stop {' '.join(names)}")

    def check(self, *names: str) -> None:
        assert set(names) <= set(ALL)
        if self.dead is not None:
            raise self.dead

    def tail(self, name: str) -> str:
        return f"the last words of {name}"

    def states(self) -> dict[str, ProcessState]:
        return {
            name: ProcessState(name=name, state=state, pid=7, since=self.since, description="pid 7")
            for name, state in reversed(self.named.items())
        }

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.on_shutdown()


class FakePostgres(Postgres):
    """Makes no folder, and asks no server."""

    def initialize(self) -> list[str]:
        return ["made the user pgserver"]

    def wait_ready(self, *, seconds: float = 0, check: Callable[[], None] = lambda: None) -> None:
        del seconds
        check()

    def ensure_databases(self) -> None:
        pass


class RigParts(LocalParts):
    """The parts of a rig, which puts its fakes into them."""

    @cached_property
    def postgres(self) -> Postgres:
        return FakePostgres(self.layout.database, port=PORTS["postgres"], secrets=self.secrets)


class FakeRecipe:
    """Finds the venv of the rig."""

    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def find(self) -> Venv | None:
        return self._rig.venv

    def ensure(self, _progress: object) -> Venv | None:
        return self._rig.venv


class Rig:
    """A local target whose supervisor, venv and Airflow are fakes."""

    def __init__(self, folder: Path) -> None:
        self.project = folder
        self.state = folder / "state"
        (folder / "dags").mkdir(exist_ok=True)
        (folder / "docker").mkdir(exist_ok=True)
        (folder / "docker" / "requirements.lock").write_text("apache-airflow==3.3.2\n")
        settings = load({"state": "state"}, project=folder)
        self.settings = dataclasses.replace(settings, up_timeout=0.01)
        self.supervisor = FakeSupervisor(self.state)
        self.unhealthy: list[str] = []
        self.patience: list[float] = []
        self.heartbeat = datetime.now(UTC)
        self.console = KeptConsole()
        self.bin = folder / "venv" / "bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        self.python("exit 0")
        self.venv: Venv | None = Venv(folder=self.bin.parent, digest="d1", created=False)
        self.layout = Layout(state=self.state)
        self.ports = {
            name: PortChoice(name=name, port=port, wanted=port)
            for name, port in {"api": 8080, **PORTS}.items()
        }
        self.target = self.again()
        self.operations = LocalOperations(self.target.parts)
        self.checker = LocalChecker(self.target.parts)

    def again(self, **variables: str) -> LocalTarget:
        """A target as another command makes it."""
        return LocalTarget(self.parts(**variables))

    def parts(self, **variables: str) -> LocalParts:
        parts = RigParts(settings=self.settings, variables={"PATH": os.defpath, **variables})
        vars(parts).update(
            recipe=FakeRecipe(self),
            supervisor=self.supervisor,
            ports=self.ports,
            loopback=httpx.Client(transport=httpx.MockTransport(self._airflow)),
        )
        return parts

    def start_all(self) -> None:
        """Let the supervisor have the programs of the settings of now."""
        self.supervisor.apply(self.parts().programs())

    def make_secrets(self) -> None:
        """Be an environment that was up before."""
        Secrets.ensure(self.layout.secrets)

    def python(self, script: str) -> None:
        """What the venv's interpreter does instead."""
        path = self.bin / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def _airflow(self, request: httpx.Request) -> httpx.Response:
        self.patience.append(request.extensions["timeout"]["read"])
        if request.url.path != "/api/v2/monitor/health":
            return httpx.Response(404)
        names = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
        return httpx.Response(
            200,
            json={
                name: {
                    "status": "unhealthy" if name in self.unhealthy else "healthy",
                    f"latest_{name}_heartbeat": self.heartbeat.isoformat(),
                }
                if name != "metadatabase"
                else {"status": "healthy"}
                for name in names
            },
        )


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(health, "POLL_SECONDS", 0.001)
    return Rig(tmp_path_factory.mktemp("r"))  # Short: unix sockets lie in it.


@contextlib.contextmanager
def answering_sync(rig: Rig) -> Iterator[FakeSync]:
    """A sync process where the target expects it."""
    path = rig.layout.socket(CONTROL_SOCKET)
    path.parent.mkdir(parents=True, exist_ok=True)
    fake = FakeSync(path)
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def sync(rig: Rig) -> Iterator[FakeSync]:
    rig.state.mkdir()
    fake = FakeSync(rig.project / "control.sock")
    fake.start()
    environment(rig.state, socket=fake.path).save(rig.state)
    migrated = rig.layout.migrated
    migrated.parent.mkdir()
    migrated.write_text("d1")
    yield fake
    fake.stop()


# --- is it up -------------------------------------------------------------------------------------


def test_nothing_is_running_before_the_first_up_and_nothing_is_made(rig: Rig) -> None:
    assert rig.target.running() is None
    assert not rig.state.exists()


def test_what_is_up_is_found(rig: Rig, sync: FakeSync) -> None:
    rig.start_all()
    found = rig.again().running()
    assert found is not None
    assert found.control_socket == str(sync.path)


def plan(target: LocalTarget) -> list[PlannedStep]:
    return [step.plan() for step in (*target.prepare(), *target.deploy())]


def planned(target: LocalTarget) -> dict[str, Action]:
    return {step.what: step.action for step in plan(target)}


def test_the_plan_of_a_first_up_makes_everything_and_nothing_is_made(rig: Rig) -> None:
    rig.venv = None
    assert planned(LocalTarget(LocalParts(settings=rig.settings, variables={}))) == {
        "Airflow's venv": Action.MAKE,
        "database": Action.MAKE,
        ", ".join(ALL): Action.START,
    }
    assert not rig.state.exists()


@pytest.mark.usefixtures("sync")
def test_the_plan_of_what_is_up_has_nothing_to_do(rig: Rig) -> None:
    rig.start_all()
    assert set(planned(rig.again()).values()) == {Action.NONE}


@pytest.mark.usefixtures("sync")
def test_the_plan_says_what_has_changed(rig: Rig) -> None:
    rig.start_all()
    rig.venv = Venv(folder=rig.bin.parent, digest="d2", created=False)
    rig.settings = load({"state": "state", "parse": {"processes": 3}}, project=rig.project)
    rig.supervisor.named["triggerer"] = "EXITED"
    venv_step, database, processes = plan(rig.again())
    assert venv_step.action is Action.NONE
    assert (database.action, database.why) == (
        Action.CHANGE,
        "another Airflow migrated it last",
    )
    assert processes.action is Action.CHANGE
    assert "dag-processor" in processes.what
    assert "postgres" not in processes.what


@pytest.mark.usefixtures("sync")
def test_another_dag_folder_restarts_the_sync_and_nothing_else(rig: Rig) -> None:
    rig.start_all()
    (rig.project / "other").mkdir()
    rig.settings = load({"state": "state", "dags": "other"}, project=rig.project)
    *_, processes = plan(rig.again())
    assert (processes.what, processes.action) == ("sync", Action.CHANGE)
    run_steps(rig.again().deploy(), rig.console)
    assert rig.layout.source.read_text() == str((rig.project / "other").resolve())


@pytest.mark.usefixtures("sync")
def test_the_plan_names_the_processes_that_do_not_run(rig: Rig) -> None:
    rig.start_all()
    rig.supervisor.named["triggerer"] = "EXITED"
    *_, processes = plan(rig.again())
    assert (processes.what, processes.action) == ("triggerer", Action.START)


@pytest.mark.usefixtures("sync")
def test_a_dead_supervisor_is_not_up(rig: Rig) -> None:
    rig.start_all()
    rig.supervisor.is_alive = False
    assert rig.again().running() is None


@pytest.mark.parametrize("state", ["BACKOFF", "FATAL", "STOPPED"])
@pytest.mark.usefixtures("sync")
def test_a_component_that_does_not_run_is_not_up(rig: Rig, state: str) -> None:
    rig.start_all()
    rig.supervisor.named["scheduler"] = state
    assert rig.again().running() is None


@pytest.mark.usefixtures("sync")
def test_a_changed_setting_is_not_up_so_that_its_programs_start_anew(rig: Rig) -> None:
    rig.start_all()
    rig.settings = load({"state": "state", "local": {"parallelism": 9}}, project=rig.project)
    assert rig.again().running() is None


def test_a_sync_that_does_not_answer_is_not_up(rig: Rig, sync: FakeSync) -> None:
    rig.start_all()
    sync.stop()
    assert rig.again().running() is None


# --- one at a time --------------------------------------------------------------------------------


def test_the_second_up_is_told_who_is_first(rig: Rig) -> None:
    with (
        rig.target.locked(),
        pytest.raises(EnvironmentFailure, match=f"pid {os.getpid()}"),
        rig.again().locked(),
    ):
        pass
    with rig.again().locked():
        pass


def test_a_failed_up_gives_the_lock_back(rig: Rig) -> None:
    with pytest.raises(EnvironmentFailure, match="no disk"), rig.target.locked():
        raise EnvironmentFailure("no disk")
    with rig.again().locked():
        pass


# --- bringing it up -------------------------------------------------------------------------------


def test_the_database_comes_first_and_airflow_after_its_migration(rig: Rig) -> None:
    rig.python(f'echo "$@" >> {rig.project}/ran; echo migrate >> {rig.project}/order')
    run_steps(rig.target.prepare(), rig.console)
    rig.layout.database.parent.mkdir(parents=True)
    run_steps(rig.target.deploy(), rig.console)
    assert rig.supervisor.calls == [
        "apply",
        "start postgres",
        "start sync",
        f"start {' '.join(AIRFLOW)}",
    ]
    assert (rig.project / "ran").read_text() == "-m airflow db migrate\n"
    assert "made the user pgserver" in rig.console.said


@pytest.mark.usefixtures("sync")
def test_a_target_goes_back_to_the_venv_that_it_was_brought_up_with(rig: Rig) -> None:
    rig.start_all()
    assert rig.target.running() is not None
    before = [program.description_file for program in rig.target.parts.programs()]
    rig.venv = Venv(folder=rig.project / "another", digest="d2", created=True)
    fresh = rig.again()
    run_steps(fresh.prepare(), rig.console)
    assert [program.description_file for program in fresh.parts.programs()] != before
    assert [program.description_file for program in rig.target.parts.programs()] == before


def test_a_database_that_is_migrated_is_not_migrated_again_until_airflow_changes(rig: Rig) -> None:
    rig.python(f"echo x >> {rig.project}/ran")
    run_steps(rig.target.prepare(), rig.console)
    rig.layout.database.parent.mkdir(parents=True)
    for digest, times in (("d1", 1), ("d1", 1), ("d2", 2)):
        rig.venv = Venv(folder=rig.bin.parent, digest=digest, created=False)
        run_steps(rig.again().deploy(), rig.console)
        assert (rig.project / "ran").read_text() == "x\n" * times


def test_a_migration_that_fails_shows_its_last_words_and_is_tried_again(rig: Rig) -> None:
    run_steps(rig.target.prepare(), rig.console)
    rig.layout.database.parent.mkdir(parents=True)
    rig.python("echo 'no such revision' >&2; exit 1")
    with pytest.raises(EnvironmentFailure, match="could not be migrated") as caught:
        run_steps(rig.target.deploy(), rig.console)
    assert "no such revision" in caught.value.hint
    assert f"start {' '.join(AIRFLOW)}" not in rig.supervisor.calls
    assert not rig.layout.migrated.exists()


def test_a_fresh_database_forgets_what_was_imported_into_the_old_one(rig: Rig) -> None:
    run_steps(rig.target.prepare(), rig.console)
    rig.layout.migrated.parent.mkdir(parents=True)
    digest = rig.state / "imported-settings.json"
    digest.write_text("x")
    run_steps(rig.target.deploy(), rig.console)
    assert not digest.exists()
    rig.layout.database.mkdir(parents=True)
    digest.write_text("x")
    run_steps(rig.again().deploy(), rig.console)
    assert digest.exists()


def test_a_port_that_moved_is_told(rig: Rig) -> None:
    rig.ports["api"] = PortChoice(name="api", port=9, wanted=8, reason="8 is busy (pid 3, nginx)")
    run_steps(rig.target.prepare(), rig.console)
    rig.layout.migrated.parent.mkdir(parents=True)
    run_steps(rig.target.deploy(), rig.console)
    assert "! port 8 is busy (pid 3, nginx): using 9" in rig.console.said


def test_the_environment_tells_where_everything_is_and_no_secret(rig: Rig) -> None:
    with answering_sync(rig):
        found = rig.target.wait(rig.console)
    assert found.airflow == "3.3.2"
    assert found.dags_folder == str(rig.project / "dags")
    assert Path(found.password_file).stat().st_mode & 0o777 == 0o600
    assert found.password() not in json.dumps(vars(found))


def test_what_stays_unhealthy_is_a_deadline_exceeded_with_its_last_words(rig: Rig) -> None:
    rig.unhealthy = ["triggerer"]
    with (
        answering_sync(rig),
        pytest.raises(DeadlineExceeded, match=r"^triggerer did not become healthy") as caught,
    ):
        rig.target.wait(rig.console)
    assert "the last words of triggerer" in caught.value.hint


def test_a_sync_that_does_not_answer_is_waited_for_too(rig: Rig) -> None:
    with pytest.raises(DeadlineExceeded, match=r"^sync did not become healthy"):
        rig.target.wait(rig.console)


def test_the_heartbeat_of_a_process_that_is_gone_is_not_believed(rig: Rig) -> None:
    """Airflow calls a scheduler healthy for 30 s after its last heartbeat."""
    rig.heartbeat = datetime.now(UTC) - timedelta(seconds=20)
    rig.supervisor.since = datetime.now(UTC) - timedelta(seconds=5)
    with (
        answering_sync(rig),
        pytest.raises(DeadlineExceeded, match=r"^scheduler, dag-processor, triggerer did not"),
    ):
        rig.target.wait(rig.console)


def test_a_component_that_died_is_not_waited_for(rig: Rig) -> None:
    rig.unhealthy = ["scheduler"]
    rig.supervisor.dead = EnvironmentFailure("scheduler does not run")
    with pytest.raises(EnvironmentFailure, match="scheduler does not run"):
        rig.target.wait(rig.console)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_restart_for_plugins_that_were_saved_meanwhile_is_waited_for(
    rig: Rig, *, comes_back: bool
) -> None:
    """The sync process stops the components for a moment, and starts them again."""
    rig.settings = dataclasses.replace(rig.settings, up_timeout=20)
    rig.supervisor.dead = EnvironmentFailure("api-server does not run")

    def go_on(_: str) -> None:
        if len(fake.requests) == 3:
            fake.state = {**fake.state, "restarting": False}
            rig.supervisor.dead = None if comes_back else rig.supervisor.dead

    rig.unhealthy = [] if comes_back else ["scheduler"]
    with answering_sync(rig) as fake:
        fake.state = {**fake.state, "restarting": True}
        fake.meanwhile = go_on
        if comes_back:
            assert rig.again().wait(rig.console).airflow
        else:
            with pytest.raises(EnvironmentFailure, match="api-server does not run"):
                rig.again().wait(rig.console)


# --- taking it down -------------------------------------------------------------------------------


def test_down_where_nothing_is_up_says_so(rig: Rig) -> None:
    rig.target.down(rig.console, volumes=True)
    assert rig.supervisor.calls == []
    assert "nothing is up" in rig.console.said


@pytest.mark.usefixtures("sync")
def test_down_forgets_the_environment_before_it_stops_it(rig: Rig) -> None:
    rig.make_secrets()
    seen: list[bool] = []
    rig.supervisor.on_shutdown = lambda: seen.append((rig.state / ENVIRONMENT_FILE).exists())
    rig.target.down(rig.console, volumes=False)
    assert seen == [False]
    assert rig.layout.secrets.exists()


def test_down_with_volumes_removes_all_state_and_nothing_else(rig: Rig) -> None:
    rig.make_secrets()
    before = sorted(path for path in rig.project.iterdir() if path != rig.state)
    rig.target.down(rig.console, volumes=True)
    assert sorted(rig.project.iterdir()) == before


def test_what_could_not_be_stopped_is_not_removed(rig: Rig) -> None:
    rig.make_secrets()

    def refuse() -> None:
        raise EnvironmentFailure("some processes do not end: 7")

    rig.supervisor.on_shutdown = refuse
    with pytest.raises(EnvironmentFailure):
        rig.target.down(rig.console, volumes=True)
    assert rig.layout.secrets.exists()


def test_damaged_secrets_do_not_keep_an_environment_from_being_wiped(rig: Rig) -> None:
    secrets = rig.layout.secrets
    secrets.mkdir(parents=True)
    (secrets / "secrets.json").write_text("{")
    parts = LocalParts(settings=rig.settings, variables={})
    target = LocalTarget(parts)
    with pytest.raises(EnvironmentFailure, match="is damaged") as caught:
        LocalOperations(parts).status()
    assert "invoke down --volumes" in caught.value.hint
    target.down(rig.console, volumes=True)
    assert not rig.state.exists()


# --- the other verbs ------------------------------------------------------------------------------


@pytest.mark.usefixtures("sync")
def test_status_is_in_the_order_of_the_components_with_their_health(rig: Rig) -> None:
    rig.make_secrets()
    rig.unhealthy = ["scheduler"]
    rig.supervisor.named |= {"triggerer": "BACKOFF", "sync": "STOPPED", "postgres": "STARTING"}
    found = {item.name: item for item in rig.operations.status()}
    assert tuple(found) == ALL
    assert {name: item.state for name, item in found.items()} == {
        "postgres": "starting",
        "api-server": "running",
        "scheduler": "running",
        "dag-processor": "running",
        "triggerer": "failed",
        "sync": "stopped",
    }
    assert rig.patience == [GLANCE_SECONDS]
    assert found["scheduler"].healthy is False
    assert found["api-server"].healthy is True
    assert found["sync"].healthy is True
    assert found["postgres"].healthy is None


def test_airflow_is_not_asked_where_its_health_does_not_matter(rig: Rig) -> None:
    rig.make_secrets()
    assert {item.state for item in rig.operations.status(health=False)} == {"running"}
    assert rig.patience == []


def test_status_where_nothing_is_makes_nothing(rig: Rig) -> None:
    assert rig.operations.status() == []
    assert not rig.state.exists()


@pytest.mark.usefixtures("sync")
def test_restarting_one_waits_for_it_alone(rig: Rig) -> None:
    rig.unhealthy = ["triggerer"]
    rig.operations.restart(rig.console, "scheduler")
    assert rig.supervisor.calls == ["stop scheduler", "start scheduler"]
    with pytest.raises(DeadlineExceeded, match="triggerer"):
        rig.operations.restart(rig.console, "triggerer")


@pytest.mark.usefixtures("sync")
def test_restarting_all_goes_through_all(rig: Rig) -> None:
    rig.operations.restart(rig.console, None)
    everything = " ".join(ALL)
    assert rig.supervisor.calls == [
        f"stop {everything}",
        "start postgres",
        f"start {everything}",
    ]


def test_logs_of_all_carry_their_names(rig: Rig) -> None:
    folder = rig.state / "logs"
    folder.mkdir(parents=True)
    (folder / "sync.log").write_text("hello\n")
    assert list(rig.operations.logs(None, follow=False, lines=5)) == ["sync          | hello"]
    assert list(rig.operations.logs("sync", follow=False, lines=5)) == ["hello"]


def test_the_shell_has_airflows_variables_and_programs(rig: Rig) -> None:
    command = rig.bin / "tell"
    command.write_text(
        '#!/bin/sh\n[ "$AIRFLOW_HOME" ] && [ "$VIRTUAL_ENV" ] && [ "$MINE" = kept ] && exit "$1"\n'
    )
    command.chmod(0o755)
    assert LocalOperations(rig.parts(MINE="kept")).shell(["tell", "9"]) == 9


def test_a_command_that_is_not_there_is_refused(rig: Rig) -> None:
    with pytest.raises(ConfigurationError, match="no command 'frobnicate'"):
        rig.operations.shell(["frobnicate"])


def test_a_check_gives_each_file_as_it_comes(rig: Rig) -> None:
    importing = '{"files": 5, "done": 1, "importing": ["b.py", "c.py", "d.py", "e.py"]}'
    rig.python(f"""echo '{{"file": "a.py"}}'; echo '{importing}'; echo '{{"file": "b.py"}}'
               echo noise >&2""")
    told: list[str] = []
    outcomes = list(rig.checker.check("/dags", progress=told.append))
    assert outcomes == [{"file": "a.py"}, {"file": "b.py"}]
    assert told == ["1 of 5 files; importing b.py, c.py, d.py and 1 more"]


def test_a_check_that_is_left_ends_what_it_started(rig: Rig) -> None:
    ended = rig.project / "ended"
    rig.python(f"""trap 'touch {ended}; exit 130' INT
               echo '{{"file": "a.py"}}'; while true; do sleep 0.05; done""")
    outcomes = rig.checker.check("/dags", progress=lambda _: None)
    next(outcomes)
    outcomes.close()
    assert ended.exists()


def test_a_check_does_not_wait_for_what_dag_files_print(rig: Rig) -> None:
    """More than a pipe holds; and one that asks for an answer gets none."""
    rig.python(
        """head -c 1000000 /dev/zero | tr '\\0' x >&2; read line && exit 1
        echo '{"file": "a.py", "errors": {}}'"""
    )
    outcomes = rig.checker.check("/dags", progress=lambda _: None)
    assert [each["file"] for each in outcomes] == ["a.py"]


def test_a_check_finds_further_folders_by_their_names(rig: Rig) -> None:
    shared = rig.project / "shared"
    shared.mkdir()
    (shared / "prices.py").touch()
    folders = {"sync": {"folders": {"shared": "include"}}, "state": "state"}
    rig.settings = load(folders, project=rig.project)
    rig.python(
        """place="${PYTHONPATH##*:}"/include
        printf '{"file": "%s", "errors": {"a.py": "%s/b"}}\\n' "$(ls "$place")" "$place\""""
    )
    # The folder that has them for a while is gone when somebody reads the error.
    errors = {"a.py": f"{shared}/b"}
    [outcome] = LocalChecker(rig.parts()).check("/dags", progress=lambda _: None)
    assert outcome == {"file": "prices.py", "errors": errors}


def test_a_check_asks_no_database_that_the_project_names(rig: Rig) -> None:
    lines = ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql://host/airflow", "CURRENCY=EUR"]
    (rig.project / ".env").write_text("\n".join(lines))
    rig.python("""echo "{\\"found\\": \\"$CURRENCY $AIRFLOW__DATABASE__SQL_ALCHEMY_CONN\\"}\"""")
    [outcome] = LocalChecker(rig.parts()).check("/dags", progress=lambda _: None)
    assert outcome == {"found": "EUR "}


def test_a_check_that_breaks_shows_its_last_words(rig: Rig) -> None:
    rig.python("""echo '{"file": "a.py"}'; echo 'no airflow here' >&2; exit 3""")
    outcomes = rig.checker.check("/dags", progress=lambda _: None)
    assert next(outcomes) == {"file": "a.py"}
    with pytest.raises(EnvironmentFailure) as caught:
        next(outcomes)
    assert "no airflow here" in caught.value.hint
