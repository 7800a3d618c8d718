"""PostgreSQL itself: made, run under the supervisor, killed, recovered."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.local import database_folder
from windsock.local.commands import Finished, run
from windsock.local.database_folder import programs_folder
from windsock.local.orphans import marked, reap
from windsock.local.postgres import Postgres
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def postgres(state: Path, secrets: Secrets, free_port: int) -> Postgres:
    return Postgres(state / "postgres" / "data", port=free_port, secrets=secrets)


@pytest.fixture
def data(state: Path) -> Path:
    return state / "postgres" / "data"


@pytest.fixture
def running(postgres: Postgres, supervisor: Supervisor) -> Iterator[Postgres]:
    postgres.initialize()
    supervisor.apply([postgres.program()])
    _start(postgres, supervisor)
    postgres.ensure_databases()
    yield postgres
    supervisor.shutdown()


def _start(postgres: Postgres, supervisor: Supervisor) -> None:
    supervisor.start("postgres")
    postgres.wait_ready(check=lambda: supervisor.check("postgres"))


def _query(url: str, statement: str) -> Finished:
    """Run a statement as a client does: by URL, over TCP."""
    plain = url.replace("+psycopg2", "")
    return run(
        [programs_folder() / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", plain],
        environment={"LC_ALL": "C"},
        folder=Path("/"),
        text=statement,
        seconds=30,
    )


def _answer(url: str, statement: str) -> str:
    done = _query(url, statement)
    assert done.code == 0, done.errors
    return done.output.strip()


def _is_refused(url: str) -> bool:
    return _query(url, "select 1").code != 0


def test_a_new_database_is_private_utf8_and_checked(running: Postgres, data: Path) -> None:
    url = running.url()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert _answer(url, "show server_encoding") == "UTF8"
    assert _answer(url, "show data_checksums") == "on"
    assert _answer(url, "show fsync") == "on"
    assert _answer(url, "select upper('ñ')") == "Ñ"
    names = {path.name for path in data.parent.iterdir()}
    assert names == {"data"}  # no password file, nothing half made


def test_every_role_needs_its_password_and_has_no_more_rights_than_it_needs(
    running: Postgres,
) -> None:
    airflow, warehouse = running.url(), running.warehouse_url()
    for url, name in ((airflow, "airflow"), (warehouse, "warehouse")):
        assert _answer(url, "select current_user, current_database()") == f"{name}|{name}"
        assert _answer(url, "select rolsuper from pg_roles where rolname = current_user") == "f"
        assert _answer(url, "create table own (id int); drop table own; select 1").endswith("1")
        head, _, rest = url.partition("://")
        user, _, address = rest.partition("@")
        assert _is_refused(f"{head}://{user.split(':')[0]}:wrong@{address}")
        assert _is_refused(f"{head}://{user.split(':')[0]}@{address}")
    assert _is_refused(airflow.replace("/airflow", "/warehouse"))
    assert _is_refused(warehouse.removesuffix("/warehouse") + "/airflow")


def test_making_the_databases_again_changes_nothing_but_passwords(
    running: Postgres, data: Path, free_port: int, secrets: Secrets
) -> None:
    _answer(running.url(), "create table kept (id int); insert into kept values (7)")
    running.ensure_databases()
    assert _answer(running.url(), "select id from kept") == "7"
    values = {name: getattr(secrets, name) for name in secrets.__dataclass_fields__}
    changed = Secrets(**{**values, "database_password": "it's @new/:%"})
    renewed = Postgres(data, port=free_port, secrets=changed)
    renewed.ensure_databases()
    assert _is_refused(running.url())
    assert _answer(renewed.url(), "select id from kept") == "7"


def test_it_listens_on_loopback_only(
    running: Postgres, supervisor: Supervisor, free_port: int
) -> None:
    running.wait_ready()
    server = psutil.Process(supervisor.states()["postgres"].pid)
    listening = [item for item in server.net_connections("all") if item.status == "LISTEN"]
    assert [item.laddr for item in listening] == [("127.0.0.1", free_port)]


def test_no_password_is_on_a_command_line_or_in_a_log_even_of_a_failure(
    running: Postgres, state: Path, secrets: Secrets, free_port: int, until: Until
) -> None:
    owner = f"postgresql://postgres:{secrets.owner_password}@127.0.0.1:{free_port}/postgres"
    _answer(owner, "alter system set default_transaction_read_only = on")
    _answer(owner, "select pg_reload_conf()")
    until(lambda: _answer(owner, "show default_transaction_read_only") == "on")
    with pytest.raises(EnvironmentFailure, match="cannot be made") as caught:
        running.ensure_databases()
    assert "read-only" in caught.value.hint
    passwords = (secrets.owner_password, secrets.database_password, secrets.warehouse_password)
    text = (state / "logs" / "postgres.log").read_text()
    for process in marked(state):
        text += _command(process)
    assert not [password for password in passwords if password in text]


def test_as_root_it_runs_as_somebody_else(running: Postgres, supervisor: Supervisor) -> None:
    del running
    process = psutil.Process(supervisor.states()["postgres"].pid)
    assert process.uids().real != 0


def test_a_killed_server_comes_back_with_its_data(
    running: Postgres, supervisor: Supervisor, until: Until
) -> None:
    until(lambda: supervisor.states()["postgres"].state == "RUNNING")
    _answer(
        running.url(),
        "set synchronous_commit = on; create table kept (id int); insert into kept values (7)",
    )
    before = supervisor.states()["postgres"].pid
    os.kill(before, signal.SIGKILL)
    until(lambda: supervisor.states()["postgres"].pid not in (0, before))
    running.wait_ready()
    assert _answer(running.url(), "select id from kept") == "7"


def test_a_busy_backend_that_outlives_its_killed_server_is_found_and_ended(
    running: Postgres, supervisor: Supervisor, state: Path, until: Until
) -> None:
    """It wrote its title over its environment, so it is known by the folder it stands in."""
    query = "select count(*) from generate_series(1, 1e11)"
    client = [
        str(programs_folder() / "psql"),
        "-X",
        "-c",
        query,
        running.url().replace("+psycopg2", ""),
    ]
    with subprocess.Popen(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
        until(lambda: any("SELECT" in _command(process) for process in marked(state)))
        server = psutil.Process(supervisor.states()["postgres"].pid)
        pid_file = state / "run" / "supervisor.pid"
        psutil.Process(int(pid_file.read_text())).kill()  # it would start a new one
        server.kill()
        asking.kill()
        (busy,) = (process for process in marked(state) if "SELECT" in _command(process))
        reap(state)
        assert not busy.is_running() or busy.status() == psutil.STATUS_ZOMBIE
    assert marked(state) == []


def test_data_outlives_a_stop_and_a_start(
    running: Postgres, supervisor: Supervisor, data: Path
) -> None:
    _answer(running.url(), "create table kept (id int); insert into kept values (7)")
    supervisor.shutdown()
    assert not (data / "postmaster.pid").exists()
    assert running.initialize() == []
    supervisor.apply([running.program()])
    _start(running, supervisor)
    assert _answer(running.url(), "select id from kept") == "7"


def test_a_pid_file_that_a_crash_left_does_not_block(
    postgres: Postgres, supervisor: Supervisor, data: Path
) -> None:
    """Its pid now belongs to a process of PostgreSQL's own user, which PostgreSQL would believe."""
    postgres.initialize()
    user = data.stat()
    lines = f"{{pid}}\n{data}\n1700000000\n5432\n\n127.0.0.1\n     0         0\nready\n"
    (data / "postmaster.pid").write_text(lines.format(pid=os.getpid()))
    os.chown(data / "postmaster.pid", user.st_uid, user.st_gid)
    postgres.initialize()
    assert not (data / "postmaster.pid").exists()
    supervisor.apply([postgres.program()])
    _start(postgres, supervisor)


def test_the_pid_file_of_a_running_server_is_left_alone(running: Postgres, data: Path) -> None:
    running.initialize()
    assert (data / "postmaster.pid").exists()
    running.wait_ready(seconds=0)


def test_a_port_that_another_postgresql_took_is_told_and_never_mistaken_for_ours(
    running: Postgres, free_port: int
) -> None:
    running.wait_ready()
    with tempfile.TemporaryDirectory(prefix="windsock-test-") as place:
        state = Path(place) / "state"
        secrets = Secrets.ensure(state / "secrets")
        second = Postgres(state / "postgres" / "data", port=free_port, secrets=secrets)
        second.initialize()
        supervisor = Supervisor(state, password=secrets.supervisor_password, inherited={})
        try:
            supervisor.apply([second.program()])
            with pytest.raises(EnvironmentFailure, match="postgres does not run") as caught:
                _start(second, supervisor)
        finally:
            supervisor.shutdown()
    assert "Address already in use" in caught.value.hint
    running.wait_ready()


def test_an_interrupted_initdb_leaves_nothing_that_looks_whole(
    postgres: Postgres, data: Path, until: Until
) -> None:
    def interrupt() -> None:
        until((data.with_name("data.new") / "base").exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        postgres.initialize()
    thread.join()
    assert list(data.parent.iterdir()) == []
    left = [
        process
        for process in psutil.process_iter()
        if str(data.with_name("data.new")) in _command(process)
    ]
    assert left == []
    postgres.initialize()
    assert (data / "PG_VERSION").exists()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_what_a_killed_initdb_left_is_made_anew(postgres: Postgres, data: Path) -> None:
    half = data.with_name("data.new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres.initialize()
    assert not half.exists()
    assert (data / "global" / "pg_control").exists()


def test_a_full_disk_is_told_and_nothing_half_made_stays(
    postgres: Postgres, state: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = state / "bin"
    programs.mkdir()
    (programs / "initdb").write_text(
        "#!/bin/sh\necho 'could not write file: No space left on device' >&2\nexit 1\n"
    )
    (programs / "initdb").chmod(0o755)
    (programs / "postgres").symlink_to(programs_folder() / "postgres")
    monkeypatch.setattr(postgres._folder, "_programs", programs)
    with pytest.raises(EnvironmentFailure, match="the disk is full"):
        postgres.initialize()
    assert list(data.parent.iterdir()) == []


@pytest.mark.parametrize("version", ["16", "17"])
def test_data_of_another_version_is_refused_and_left(
    postgres: Postgres, data: Path, version: str
) -> None:
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(version + "\n")
    with pytest.raises(EnvironmentFailure, match=f"was made by PostgreSQL {version}") as caught:
        postgres.initialize()
    assert "invoke down --volumes" in caught.value.hint
    assert (data / "PG_VERSION").exists()


def test_a_folder_that_holds_no_database_is_refused_and_left(
    postgres: Postgres, data: Path
) -> None:
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("precious")
    with pytest.raises(EnvironmentFailure, match="holds no PostgreSQL database"):
        postgres.initialize()
    assert (data / "thesis.txt").read_text() == "precious"


def test_lost_secrets_are_told_at_once(
    running: Postgres, state: Path, data: Path, free_port: int
) -> None:
    del running
    shutil.rmtree(state / "secrets")
    other = Postgres(data, port=free_port, secrets=Secrets.ensure(state / "secrets"))
    with pytest.raises(EnvironmentFailure, match="made with other passwords"):
        other.wait_ready(seconds=60)


def test_a_server_that_never_answers_is_a_failure(
    data: Path, free_port: int, secrets: Secrets
) -> None:
    moments = iter((0.0, 31.0))
    waiting = Postgres(
        data,
        port=free_port,
        secrets=secrets,
        clock=lambda: next(moments),
        sleep=lambda _seconds: None,
    )
    with pytest.raises(DeadlineExceeded, match="did not answer within 30 s"):
        waiting.wait_ready(seconds=30)


def test_a_missing_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_folder, "MAJOR", 99)
    with pytest.raises(EnvironmentFailure, match="PostgreSQL 99 is not installed"):
        programs_folder()
