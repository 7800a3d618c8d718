"""Every command as its user meets it: exit codes, data on stdout, status on stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import yaml

from tests import faults
from tests.e2e.folder import EXAMPLE_DAGS, assert_in_step, dag_source
from tests.e2e.machine import assert_nothing_runs, component_pid, processes_of
from tests.e2e.project import ROOT, Project, eventually
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.folder import Folder

pytestmark = pytest.mark.e2e

COMPONENTS = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "sync"}


def data(environment: Project, *arguments: str, code: int = 0) -> Any:
    """What a command with --json answers."""
    done = environment.invoke(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def nowhere(tmp_path: Path) -> Project:
    """A project in which nothing was ever brought up."""
    project = Project(home=tmp_path)
    project.dags.mkdir()
    return project


# --- looking at it --------------------------------------------------------------------------------


def test_status_names_every_component_the_sync_and_the_address(environment: Project) -> None:
    assert_in_step(environment)
    status = data(environment, "status")

    assert status["healthy"] is True
    assert {item["name"] for item in status["components"]} == COMPONENTS
    assert {item["state"] for item in status["components"]} == {"running"}
    assert status["url"] == environment.model.url
    assert status["sync"]["dags"] == sorted(EXAMPLE_DAGS)

    done = environment.invoke("status")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMPONENTS)
    assert environment.model.url in done.stdout
    assert done.stderr == ""


def test_up_when_it_is_up_attaches(environment: Project) -> None:
    before = {process.pid for process in processes_of(environment)}

    done = environment.invoke("up", "--detach")

    assert done.returncode == 0
    assert "already up" in done.stderr
    assert environment.model.url in done.stderr
    components = {component_pid(environment, name) for name in COMPONENTS}
    assert components <= before


def test_other_settings_are_asked_for_and_another_dag_folder_restarts_the_sync_only(
    environment: Project, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.py").write_text(dag_source("other"))
    (elsewhere / "broken.py").write_text(dag_source("broken", top="import no_such_package"))
    test = tmp_path / "test_other.py"
    test.write_text(
        "def test_other(airflow):\n    assert airflow.run('other').state == 'success'\n"
    )

    def pids() -> set[tuple[str, str]]:
        components = data(environment, "status")["components"]
        return {(item["name"], item["detail"].split(",")[0]) for item in components}

    before = pids()

    def restarted() -> set[str]:
        return {name for name, _ in pids() - before}

    refused = environment.invoke("up", "--detach", INVOKE_WINDSOCK_DAGS=str(elsewhere))
    assert refused.returncode == 2
    assert f"dags is {environment.dags}, not {elsewhere}" in refused.stderr
    assert "invoke up --replace" in refused.stderr
    assert restarted() == set()
    try:
        with environment.start("up") as attached:
            attached.wait_for("watching for saves")
            done = environment.invoke("up", "--detach", "--replace", "--dags", str(elsewhere))
            assert done.returncode == 0, done.stderr
            # Whoever follows the saves goes on, with the files of the other folder.
            attached.wait_for("changes the environment; waiting for it")
            (elsewhere / "new.py").write_text(dag_source("new"))
            attached.wait_for(r"✓ .*new\.py → new")
            # The settings of these commands still name the former folder.
            done = environment.invoke("test", str(test))
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"dags is {elsewhere}, not {environment.dags}" in done.stderr
            errors = data(environment, "dags.errors", code=1)
            assert f'File "{elsewhere}/broken.py", line 3' in errors["broken.py"]
            assert restarted() == {"sync"}
            attached.interrupt()
            assert attached.end() == 0, attached.text()
    finally:
        environment.up()
    assert_in_step(environment)


def test_logs_show_one_component_or_all(environment: Project) -> None:
    one = environment.invoke("logs", "postgres", "--lines", "5")
    assert one.returncode == 0
    assert 0 < len(one.stdout.splitlines()) <= 5
    assert "postgres " not in one.stdout.splitlines()[0][:10]

    everything = environment.invoke("logs", "--lines", "1")
    assert {line.split(" | ")[0].strip() for line in everything.stdout.splitlines()} <= COMPONENTS

    unknown = environment.invoke("logs", "webserver")
    assert unknown.returncode == 2
    assert "api-server" in unknown.stderr


def test_logs_can_be_followed_until_ctrl_c(environment: Project, folder: Folder) -> None:
    with environment.start("logs", "sync", "--follow", "--lines", "0") as following:
        # It is there when the first of these saves shows.
        def shows() -> bool:
            folder.save("probe.txt", os.urandom(4).hex())
            return any("probe.txt" in line for line in following.data)

        eventually(shows, "the log of a save is shown", every=0.2)
        following.interrupt()
        assert following.end() == 0
        assert not any("Traceback" in line for line in following.lines)


def test_one_component_can_be_restarted(environment: Project) -> None:
    before = {name: component_pid(environment, name) for name in COMPONENTS}

    done = environment.invoke("restart", "triggerer")

    assert done.returncode == 0, done.stderr
    after = {name: component_pid(environment, name) for name in COMPONENTS}
    assert {name for name in COMPONENTS if before[name] != after[name]} == {"triggerer"}
    assert data(environment, "status")["healthy"] is True
    assert environment.invoke("restart", "webserver").returncode == 2


def test_version_tells_what_matters(environment: Project) -> None:
    versions = data(environment, "version")
    assert versions["airflow"] == environment.airflow.version()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_open_shows_the_ui_in_the_browser(environment: Project, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)

    done = environment.invoke("open", BROWSER=str(browser))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "opened").read_text().strip() == environment.model.url
    assert environment.model.password_file in done.stderr


def test_the_doctor_finds_nothing_wrong_here(environment: Project) -> None:
    findings = data(environment, "doctor")
    assert findings
    assert environment.invoke("doctor").returncode == 0


def test_ctrl_c_of_sync_leaves_the_environment_running(environment: Project) -> None:
    with environment.start("sync") as attached:
        attached.wait_for("watching")
        attached.interrupt()
        assert attached.end() == 0
    assert data(environment, "status")["healthy"] is True


# --- DAGs -----------------------------------------------------------------------------------------


def test_dags_are_listed(environment: Project, folder: Folder) -> None:
    folder.save("trade.py", dag_source("trade"))

    rows = data(environment, "dags.list")

    assert {row["dag_id"]: row["file"] for row in rows} == {
        dag: f"{dag}.py" for dag in {*EXAMPLE_DAGS, "trade"}
    }
    text = environment.invoke("dags.list").stdout
    shown = dict(line.split() for line in text.splitlines())
    # Paths are as a terminal can open them; tests run the commands in ROOT.
    assert {dag: (ROOT / path).resolve() for dag, path in shown.items()} == {
        row["dag_id"]: folder.path / row["file"] for row in rows
    }


def test_a_triggered_run_tells_by_its_exit_code_how_it_went(
    environment: Project, folder: Folder
) -> None:
    body = "from airflow.sdk import get_current_context\n"
    body += "return 1 / get_current_context()['params']['divisor']"
    source = dag_source("divide", {"divide": body})
    folder.write(
        "divide.py", source.replace("schedule=None", "schedule=None, params={'divisor': 2}")
    )

    # No waiting before: the command itself waits until what was just saved is parsed.
    run = data(environment, "dags.trigger", "divide", "--wait")
    assert run["state"] == "success"
    assert environment.airflow.xcom("divide", run["run_id"], "divide") == 0.5

    conf = json.dumps({"divisor": 4})
    run = data(environment, "dags.trigger", "divide", "--wait", "--conf", conf)
    assert environment.airflow.xcom("divide", run["run_id"], "divide") == 0.25

    conf = json.dumps({"divisor": 0})
    failed = environment.invoke("dags.trigger", "divide", "--wait", "--conf", conf)
    assert failed.returncode == 1
    assert "divide: failed" in failed.stderr
    assert re.search(r"/divide\.py:\d+  divide: ZeroDivisionError: division by zero", failed.stderr)
    assert "::group::" not in failed.stderr
    assert "conf 'divisor': 4 → 0" in failed.stderr
    assert failed.stdout == ""

    unknown = environment.invoke("dags.trigger", "multiply")
    assert unknown.returncode not in {0, 1}
    assert "multiply" in unknown.stderr
    assert "Traceback" not in unknown.stderr

    for conf in ("{", "[1]"):
        refused = environment.invoke("dags.trigger", "divide", "--conf", conf)
        assert refused.returncode == 2
        assert "--conf" in refused.stderr


def test_a_scheduled_dag_that_is_paused_runs_only_what_was_asked_for(
    environment: Project, folder: Folder
) -> None:
    daily = "schedule='@daily', start_date=datetime(2026, 1, 1), is_paused_upon_creation=True"
    source = dag_source("daily", top="from datetime import datetime")
    with environment.start("sync") as terminal:
        terminal.wait_for("watching")
        folder.write("daily.py", source.replace("schedule=None", daily))
        terminal.wait_for(r"daily\.py → daily \(1 task, paused, @daily\)")

    run = data(environment, "dags.trigger", "daily", "--wait")
    assert run["state"] == "success"
    assert environment.airflow.dag("daily").paused
    assert [each.run_id for each in environment.airflow.runs("daily")] == [run["run_id"]]

    with environment.start("dags.trigger", "daily", "--wait") as command:
        command.wait_for("is queued")
        command.interrupt()
        command.end()
    eventually(
        lambda: [each.state for each in environment.airflow.runs("daily")] == ["success"] * 2,
        "the run goes on, and what the schedule started is gone",
    )
    eventually(lambda: environment.airflow.dag("daily").paused, "the DAG is paused again")


def test_import_errors_are_shown_at_the_authors_line(environment: Project, folder: Folder) -> None:
    assert environment.invoke("dags.errors").returncode == 0
    assert data(environment, "dags.errors") == {}

    source = dag_source("broken", top="import no_such_package")
    folder.write("broken.py", source)

    errors = data(environment, "dags.errors", code=1)
    assert list(errors) == ["broken.py"]
    number = source.splitlines().index("import no_such_package") + 1
    assert f'File "{folder.path}/broken.py", line {number}' in errors["broken.py"]
    done = environment.invoke("dags.errors")
    assert done.returncode == 1
    place = re.search(r"✗ (\S+):(\d+) ", done.stdout)
    assert place is not None, done.stdout
    assert (ROOT / place[1]).resolve() == folder.path / "broken.py"
    assert int(place[2]) == number
    assert "No module named 'no_such_package'" in done.stdout + done.stderr


def test_dags_are_checked_without_a_running_airflow(environment: Project, nowhere: Project) -> None:
    nowhere.state.mkdir()
    (nowhere.state / "venv").symlink_to(environment.state / "venv")
    (nowhere.dags / "good.py").write_text(dag_source("good", ["a", "b"]))

    good = nowhere.invoke("dags.check", "--json")
    assert good.returncode == 0, good.stderr
    [outcome] = json.loads(good.stdout)
    assert (outcome["file"], outcome["dags"]) == ("good.py", {"good": 2})

    (nowhere.dags / "broken.py").write_text(dag_source("broken", top="raise ValueError('no')"))
    (nowhere.dags / "hanging.py").write_text(dag_source("hanging", top="while True: pass"))
    (nowhere.dags / "gone.py").write_text(dag_source("gone", top="import os; os._exit(3)"))
    checked = nowhere.invoke("dags.check", INVOKE_WINDSOCK_PARSE_IMPORT_TIMEOUT="2")
    assert checked.returncode == 1
    said = checked.stdout + checked.stderr
    assert "broken.py:3  ValueError: no" in said
    assert "hanging.py" in said
    assert "gone.py" in said
    assert "exit code 3" in said
    assert "/dags/good.py: good" in said
    assert_nothing_runs(nowhere)


def test_what_stands_in_the_way_of_a_check_is_told_and_stops_nothing(
    environment: Project, nowhere: Project
) -> None:
    """Links that Airflow's own search ends at, lines of .airflowignore, and a nameless signal."""
    nowhere.state.mkdir()
    (nowhere.state / "venv").symlink_to(environment.state / "venv")
    rules = {"bang": b"!", "windows": b"ok\nhelpers\\\n", "utf16": "helpers\n".encode("utf-16")}
    sound = ("sound", "left", "right", *rules)
    for name in sound:
        (nowhere.dags / name).mkdir()
        (nowhere.dags / name / "its_dag.py").write_text(dag_source(name))
    for name, content in rules.items():
        (nowhere.dags / name / ".airflowignore").write_bytes(content)
    (nowhere.dags / "left" / "right").symlink_to("../right")
    (nowhere.dags / "right" / "left").symlink_to("../left")
    kill = "import os\nos.kill(os.getpid(), 35)"
    (nowhere.dags / "killed.py").write_text(dag_source("killed", top=kill))

    checked = nowhere.invoke("dags.check", "--json")

    assert checked.returncode == 1, checked.stderr
    outcomes = json.loads(checked.stdout)
    assert sorted(dag_id for each in outcomes for dag_id in each["dags"]) == sorted(sound)
    errors = {path: trace for each in outcomes for path, trace in each["errors"].items()}
    told = {
        "left/right": "a link leads to right",
        "right/left": "a link leads to left",
        "bang/.airflowignore": "line 1",
        "windows/.airflowignore": "line 2",
        "utf16/.airflowignore": "it is not UTF-8",
        "killed.py": "the import ended its process by signal 35",
    }
    assert errors.keys() == told.keys()
    assert {path: text for path, text in told.items() if text not in errors[path]} == {}


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_imported_when_they_change_and_exported_again(
    environment: Project, tmp_path: Path
) -> None:
    exported = environment.invoke("settings.export")
    assert exported.returncode == 0, exported.stderr
    settings = yaml.safe_load(exported.stdout)
    assert settings["airflow"]["pools"][0]["pool_name"] == "supplier"
    assert "only-for-development" not in exported.stdout  # Airflow gives no password away

    output = tmp_path / "exported.yaml"
    assert environment.invoke("settings.export", "--output", str(output)).returncode == 0
    assert yaml.safe_load(output.read_text()) == settings
    assert sorted(settings["airflow"]) == ["connections", "pools", "variables"]


def test_a_saved_settings_file_reaches_airflow_while_it_runs(
    environment: Project, folder: Folder
) -> None:
    path = environment.settings
    text = path.read_text().replace("pool_slot: 1", "pool_slot: 7")
    path.write_text(text.replace("supplier_terms", "supplier_rules"))

    def slots() -> list[int]:
        pools = environment.airflow.objects("pools")
        return [pool["slots"] for pool in pools if pool["name"] == "supplier"]

    eventually(lambda: slots() == [7], "the pool has its new size")
    keys = [item["key"] for item in environment.airflow.objects("variables")]
    assert "supplier_rules" in keys
    assert "supplier_terms" not in keys

    path.write_text("airflow: [not, a, mapping]")
    with environment.start("sync") as terminal:
        terminal.wait_for("watching")

        def complains() -> bool:
            path.write_text(path.read_text() + " ")
            return any("settings.yaml" in line for line in terminal.lines)

        eventually(complains, "the terminal tells what is wrong with the file", every=1.0)
    assert slots() == [7]
    folder.restore()
    folder.settle()
    assert slots() == [1]


# --- a shell --------------------------------------------------------------------------------------


def test_a_shell_command_runs_in_airflows_environment(environment: Project) -> None:
    done = environment.invoke(
        "shell", "--", "python", "-c", "import airflow; print(airflow.__file__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(environment.state.resolve()))

    done = environment.invoke("shell", "--", "airflow", "variables", "get", "supplier_terms")
    assert done.returncode == 0, done.stderr
    assert "bottles_per_crate" in done.stdout

    done = environment.invoke("shell", "--", "sh", "-c", 'echo "$1"; exit 7', "sh", "two  blanks")
    assert done.returncode == 7
    assert done.stdout == "two  blanks\n"

    assert environment.invoke("shell", "--", "no-such-command").returncode == 2


def test_each_fault_of_the_table_is_told_as_it_says(environment: Project, nowhere: Project) -> None:
    nowhere.state.mkdir()
    (nowhere.state / "venv").symlink_to(environment.state / "venv")
    faults.write(nowhere.dags)
    (nowhere.dags / "moves.py").write_text(faults.moves())

    checked = nowhere.invoke("dags.check", "--json", INVOKE_WINDSOCK_PARSE_IMPORT_TIMEOUT="5")

    assert checked.returncode == 1, checked.stderr
    traces = {
        path: trace
        for outcome in json.loads(checked.stdout)
        for path, trace in outcome["errors"].items()
    }
    assert traces.keys() == faults.table().keys()
    for path, trace in traces.items():
        faults.check(path, trace, places=Places(str(nowhere.dags)))
    assert_nothing_runs(nowhere)


# --- nothing is up --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["sync"],
        ["dags.list"],
        ["dags.errors"],
        ["dags.trigger", "sales"],
        ["settings.export"],
        ["restart"],
        ["open"],
        ["shell", "--", "true"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_an_environment_a_command_says_what_to_do(
    nowhere: Project, arguments: list[str]
) -> None:
    done = nowhere.invoke(*arguments)

    assert done.returncode == 3
    assert "invoke up" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if arguments == ["status"]:
        assert "nothing is up" in done.stdout  # That is its answer.
    else:
        assert done.stdout == ""


def test_down_of_nothing_is_no_failure(nowhere: Project) -> None:
    for arguments in (["down"], ["down"], ["down", "--volumes"]):
        done = nowhere.invoke(*arguments)
        assert done.returncode == 0
        assert "nothing is up" in done.stderr
    assert data(nowhere, "status", code=3)["components"] == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("INVOKE_WINDSOCK_LOCAL_PORT", "123456", "windsock.local.port"),
        ("INVOKE_WINDSOCK_LOCAL_PORT", "many", "windsock.local.port"),
        ("INVOKE_WINDSOCK_TARGET", "moon", "windsock.target"),
        ("INVOKE_WINDSOCK_DAGS", "/no/such/folder", "/no/such/folder"),
        ("INVOKE_WINDSOCK_LOCAL_PYTHON", "/no/such/python", "/no/such/python"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    nowhere: Project, variable: str, value: str, said: str
) -> None:
    done = nowhere.invoke("up", "--detach", **{variable: value})

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_runs(nowhere)


# --- the terminal ---------------------------------------------------------------------------------


def on_a_terminal(environment: Project, *arguments: str, **variables: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        env={**environment.environ(**variables), "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    output = bytearray()

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed
                return
            if not part:
                return
            output.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(timeout=60)
    reader.join()
    os.close(ours)
    return output.decode()


def test_colour_is_for_terminals_that_want_it(environment: Project) -> None:
    assert "\x1b[32m✓" in on_a_terminal(environment, "status", NO_COLOR="")
    assert "\x1b" not in on_a_terminal(environment, "status", NO_COLOR="1")
    piped = environment.invoke("status", NO_COLOR="")
    assert "\x1b" not in piped.stdout + piped.stderr


def run_here(environment: Project, *command: str) -> subprocess.CompletedProcess[str]:
    """Run any command to its end, where and with what `environment.invoke` runs one."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_that_goes_away_is_no_failure(environment: Project) -> None:
    command = f"{sys.executable} -m invoke logs --lines 2000 | head -n 1"
    done = run_here(environment, "/bin/bash", "-o", "pipefail", "-c", command)
    assert done.returncode in {0, 128 + signal.SIGPIPE}
    assert done.stderr == ""


def test_the_list_of_commands_imports_nothing_heavy(environment: Project) -> None:
    program = (
        "import sys; sys.argv = ['invoke', '--list']\n"
        "from invoke.main import program\n"
        "program.run(exit=False)\n"
        "heavy = {'kubernetes', 'docker', 'httpx', 'watchdog', 'psutil', 'pytest'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = run_here(environment, sys.executable, "-c", program)
    assert done.returncode == 0, f"imported: {done.stderr}"
    for name in ("up", "down", "dags.check", "settings.export", "bench.reload"):
        assert f"  {name} " in done.stdout


# --- private --------------------------------------------------------------------------------------


def test_everything_listens_on_loopback_only(environment: Project) -> None:
    listening: set[tuple[str, int]] = set()
    for process in processes_of(environment):
        with suppress(psutil.NoSuchProcess):  # Parsers come and go.
            for item in process.net_connections(kind="inet"):
                if item.status == psutil.CONN_LISTEN:
                    listening.add((item.laddr.ip, item.laddr.port))
    assert {address for address, _ in listening} == {"127.0.0.1"}
    assert len(listening) >= 2  # the API and the database, at least: we did see them


def test_the_api_wants_the_password(environment: Project) -> None:
    url = environment.model.url
    assert httpx.get(f"{url}/api/v2/dags").status_code == 401
    wrong = {"username": "admin", "password": "admin"}
    assert httpx.post(f"{url}/auth/token", json=wrong).status_code == 401


def test_no_secret_is_on_a_command_line_or_readable_for_others(environment: Project) -> None:
    secrets = json.loads((environment.state / "secrets" / "secrets.json").read_text())
    values = [value for value in secrets.values() if isinstance(value, str)]
    assert len(values) >= 8
    for process in processes_of(environment):
        with suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            assert not any(value in line for value in values), process

    readable = []
    for place, folders, names in os.walk(environment.state):
        # The venv is hundreds of megabytes of other people's files; data is PostgreSQL's own.
        folders[:] = [name for name in folders if name not in {"venv", "data", "snapshots"}]
        for name in names:
            path = environment.state.joinpath(place, name)
            if path.is_symlink() or not path.is_file():
                continue
            content = path.read_bytes()
            if any(value.encode() in content for value in values):
                hidden = not path.stat().st_mode & 0o077
                readable += [] if hidden else [str(path)]
    assert readable == []
    assert (environment.state / "secrets").stat().st_mode & 0o777 == 0o700
    assert (environment.state / "postgres" / "data").stat().st_mode & 0o077 == 0


def test_the_control_sockets_are_for_their_owner_only(environment: Project) -> None:
    sockets = [path for path in (environment.state / "run").rglob("*") if path.is_socket()]
    assert sockets
    for path in sockets:
        folder_closed = not path.parent.stat().st_mode & 0o011
        assert folder_closed or not path.stat().st_mode & 0o077, path
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(environment.model.control_socket)
        peer.sendall(b"this is no JSON\n")
        peer.recv(100)  # whatever it answers …
    assert_in_step(environment)  # … it goes on
