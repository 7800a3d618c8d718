from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.unit.fakes import FakeSync, FakeTarget, FakeWorkspace, environment
from windsock import doctor
from windsock.config import load
from windsock.doctor import environment as environment_checks
from windsock.doctor import machine, project
from windsock.doctor.finding import OK, PROBLEM, WARNING, Finding
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.components import Layout
from windsock.local.orphans import mark
from windsock.local.secrets import Secrets
from windsock.local.venv import Venv, VenvRecipe
from windsock.targets.base import Component

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GIBIBYTE = 1024**3


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(state=tmp_path / "state")


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[FakeSync]:
    fake = FakeSync(tmp_path / "control.sock")
    environment(tmp_path / "state", socket=fake.path).save(tmp_path / "state")
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def work(tmp_path: Path) -> FakeWorkspace:
    """A whole project."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "requirements.lock").write_text("apache-airflow==3.3.2\n")
    (tmp_path / "docker" / "requirements.txt").write_text("")
    target = FakeTarget(environment(tmp_path / "elsewhere", socket=tmp_path / "none"))
    return FakeWorkspace.of(tmp_path, target)


# --- the whole ------------------------------------------------------------------------------------


def test_a_fresh_project_has_no_problem_and_stays_untouched(
    work: FakeWorkspace, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert doctor.run(work.settings, work.console, as_json=True) == 0
    assert sorted(tmp_path.rglob("*")) == before
    answer = work.kept.answer
    assert answer["problems"] == 0
    assert answer["warnings"] == sum(finding["level"] == WARNING for finding in answer["findings"])
    checks = {finding["check"] for finding in answer["findings"]}
    assert checks >= {"python", "uv", "disk", "dags", "lock", "ports", "secrets", "tools"}


def test_where_a_cluster_is_meant_the_checks_speak_of_it(
    work: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windsock.targets.choose.operations", lambda _: work.fake)
    monkeypatch.setenv("PATH", str(tmp_path))
    work.fake.components = []
    cluster = {"context": "lab", "allowed_contexts": ["lab"], "port": 18081}
    settings = load({"target": "context", "state": "s", "cluster": cluster}, project=tmp_path)
    assert doctor.run(settings, work.console, as_json=True) == 3
    findings = {finding["check"]: finding for finding in work.kept.answer["findings"]}
    assert findings["target"]["what"] == "context (context lab, namespace windsock)"
    assert "18081" in findings["ports"]["what"]
    assert "5433" not in findings["ports"]["what"]
    assert not {"postgres", "memory", "venv"} & findings.keys()


def test_a_target_that_cannot_be_meant_is_a_finding(work: FakeWorkspace, tmp_path: Path) -> None:
    settings = load({"target": "context", "state": "s"}, project=tmp_path)
    assert doctor.run(settings, work.console, as_json=False) == 3
    assert "needs the name of a kube context" in work.kept.data.getvalue()


def test_a_problem_is_the_exit_code_and_says_what_to_do(
    work: FakeWorkspace, tmp_path: Path
) -> None:
    (tmp_path / "dags").rmdir()
    assert doctor.run(work.settings, work.console, as_json=False) == EnvironmentFailure.exit_code
    assert "✗ dags" in work.kept.data.getvalue()
    assert "mkdir -p" in work.kept.data.getvalue()
    assert "1 problem, " in work.kept.data.getvalue()
    assert work.kept.said == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_secret_is_printed(work: FakeWorkspace, tmp_path: Path, as_json: bool) -> None:
    secrets = Secrets.ensure(tmp_path / "state" / "secrets")
    (tmp_path / "airflow_settings.yaml").write_text(
        "airflow:\n  connections:\n    - conn_id: a\n      conn_type: http\n"
        "      conn_password: hush-hush\n"
    )
    secrets.admin_password_file.chmod(0o644)
    assert doctor.run(work.settings, work.console, as_json=as_json) == 3
    printed = work.kept.said + work.kept.data.getvalue()
    values = json.loads((secrets.folder / "secrets.json").read_text()).values()
    assert not [value for value in (*values, "hush-hush") if value in printed]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigurationError("wrong", "right it"), Finding(PROBLEM, "wrong", "right it", "a")),
        (OSError("denied"), Finding(WARNING, "could not be checked: denied", check="a")),
        (psutil.AccessDenied(1), Finding(WARNING, "could not be checked: (pid=1)", check="a")),
    ],
)
def test_a_check_that_fails_itself_is_a_finding(error: Exception, expected: Finding) -> None:
    def fails() -> list[Finding]:
        raise error

    found = doctor.examine({"a": fails, "b": lambda: [Finding(OK, "fine")]})
    assert found == [expected, Finding(OK, "fine", check="b")]


# --- the machine ----------------------------------------------------------------------------------


def test_python_is_the_one_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="no program"):
        list(machine.python("/no/such/python", {}))
    assert only(machine.python("", {})).level == OK


@pytest.mark.parametrize(
    ("free", "built", "level"),
    [
        (3 * GIBIBYTE, False, OK),
        (2 * GIBIBYTE, False, OK),
        (2 * GIBIBYTE - 1, False, PROBLEM),
        (2 * GIBIBYTE - 1, True, WARNING),
        (1, True, PROBLEM),
    ],
)
def test_disk_space(layout: Layout, free: int, built: bool, level: str) -> None:
    if built:
        layout.database.mkdir(parents=True)
    found = only(machine.disk(layout, free=lambda _: free))
    assert found.level == level
    assert bool(found.advice) is (level != OK)


def test_memory_is_what_the_container_may_use(tmp_path: Path) -> None:
    assert "GiB available" in only(machine.memory(control_group=tmp_path)).what
    (tmp_path / "memory.max").write_text(f"{GIBIBYTE}\n")
    (tmp_path / "memory.current").write_text(f"{GIBIBYTE // 2}\n")
    found = only(machine.memory(control_group=tmp_path))
    assert (found.level, found.what) == (WARNING, "0.5 of 1.0 GiB available")
    (tmp_path / "memory.current").write_text("0\n")
    assert only(machine.memory(control_group=tmp_path)).level == OK
    (tmp_path / "memory.max").write_text("max\n")
    assert only(machine.memory(control_group=tmp_path)).what != found.what


def test_a_clock_that_is_behind(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    now = time.time()
    assert only(machine.clock([file, tmp_path / "none"], now=now)).level == OK
    assert only(machine.clock([file], now=max(now - 3600, machine.EARLIEST))).level == WARNING
    assert only(machine.clock([], now=0.0)).level == PROBLEM


def _tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_tools_show_their_versions_and_none_is_needed(tmp_path: Path) -> None:
    _tool(tmp_path, "git", "echo git version 2.39")
    _tool(tmp_path, "kind", "echo v0.30")
    _tool(tmp_path, "docker", "exit 1")
    _tool(tmp_path, "tilt", f"touch {tmp_path}/tilt-was-run")
    there, missing = machine.tools({"PATH": str(tmp_path)})
    assert there.what == (
        f"git version 2.39; docker ({tmp_path}/docker); kind: v0.30; tilt ({tmp_path}/tilt)"
    )
    assert missing.what.endswith("kubectl, okteto")
    assert levels([there, missing]) == [OK, OK]
    assert not (tmp_path / "tilt-was-run").exists()


def test_a_tool_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    _tool(tmp_path, "git", "exec /bin/sleep 100")
    there, _ = machine.tools({"PATH": str(tmp_path)}, seconds=0.05)
    assert there.what == f"git ({tmp_path}/git)"


def test_a_tool_that_the_target_needs_is_a_problem(tmp_path: Path) -> None:
    _tool(tmp_path, "git", "echo git version 2.39")
    _, needed, spare = machine.tools({"PATH": str(tmp_path)}, needed=machine.NEEDED["kind"])
    assert (needed.level, spare.level) == (PROBLEM, OK)
    assert needed.what.endswith("needed for this target: kubectl, kind")
    assert spare.what.endswith("not needed for this target: docker, tilt, okteto")


def test_no_git_is_a_warning(tmp_path: Path) -> None:
    assert levels(machine.tools({"PATH": str(tmp_path)})) == [WARNING, OK]


# --- the project ----------------------------------------------------------------------------------


def test_a_dag_folder_is_counted_as_it_is_synced(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", ".git/config", "__pycache__/a.pyc", "data/x.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / ".windsockignore").write_text("data/\n")
    assert only(project.dags(tmp_path)).what == f"{tmp_path}: 2 files in 2 folders"


def test_a_dag_folder_that_is_too_large_or_missing(tmp_path: Path) -> None:
    assert only(project.dags(tmp_path / "none")).level == PROBLEM
    (tmp_path / "a.py").touch()
    assert only(project.dags(tmp_path, most=1)).level == OK
    (tmp_path / "b.py").touch()
    assert only(project.dags(tmp_path, most=1)).level == WARNING


def test_broken_ignore_rules_are_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / ".windsockignore").write_bytes(b"\xff\n")
    assert doctor.examine({"dags": lambda: project.dags(tmp_path)})[0].level == PROBLEM


@pytest.mark.parametrize(("limit", "level"), [(4, OK), (3, WARNING)])
def test_watches_leave_room_for_an_editor(tmp_path: Path, limit: int, level: str) -> None:
    (tmp_path / "dags" / "sub").mkdir(parents=True)
    (tmp_path / "max_user_watches").write_text(f"{limit}\n")
    found = only(project.watches(tmp_path / "dags", limits=tmp_path))
    assert found.level == level
    assert ("sysctl" in found.advice) is (level == WARNING)
    assert list(project.watches(tmp_path / "dags", limits=tmp_path / "macOS")) == []


def test_the_settings_file_is_read_as_an_import_would(tmp_path: Path) -> None:
    settings = load({}, project=tmp_path)
    assert only(project.airflow_settings(settings, {})).level == OK
    (tmp_path / "airflow_settings.yaml").write_text(
        "airflow:\n  variables:\n    - variable_name: a\n      variable_value: ${TOKEN}\n"
    )
    found = only(project.airflow_settings(settings, {"TOKEN": "hush"}))
    assert found.what == "airflow_settings.yaml: 0 connections, 1 variable, 0 pools"
    with pytest.raises(ConfigurationError, match="TOKEN"):
        list(project.airflow_settings(settings, {}))


def test_the_lock_and_the_projects_own_requirements(work: FakeWorkspace, tmp_path: Path) -> None:
    assert only(project.lock(work.settings)) == Finding(OK, "Airflow 3.3.2")
    (tmp_path / "docker" / "requirements.txt").unlink()
    assert levels(project.lock(work.settings)) == [OK, WARNING]
    (tmp_path / "docker" / "requirements.lock").unlink()
    with pytest.raises(ConfigurationError):
        list(project.lock(work.settings))


# --- the environment ------------------------------------------------------------------------------


def test_the_venv_of_these_requirements_is_looked_for(
    work: FakeWorkspace, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> list[Finding]:
        return list(environment_checks.built(work.settings, layout, {}))

    assert "not built yet" in only(check()).what
    venv = Venv(folder=layout.venvs / "abc", digest="abc", created=False)
    monkeypatch.setattr(VenvRecipe, "find", lambda _: venv)
    assert only(check()) == Finding(OK, str(venv.folder))
    monkeypatch.undo()
    (work.settings.project / "docker" / "requirements.lock").unlink()
    assert check() == []  # The check of the lock says so.


def test_a_long_path_is_known_to_be_handled() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders may be long themselves
        short, long = Layout(state=Path(place, "s")), Layout(state=Path(place, "x" * 120))
        assert "too long" not in only(environment_checks.paths(short)).what
        assert "too long" in only(environment_checks.paths(long)).what
        assert not short.state.exists()


@contextlib.contextmanager
def process_of(state: Path, code: str) -> Iterator[str]:
    """A process of an environment, which runs until the end of the block; its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\ninput()"],
        env={**os.environ, **mark(state)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
"""


def test_a_port_of_somebody_else_is_named(layout: Layout, tmp_path: Path) -> None:
    with process_of(layout.state, SERVER) as port:
        settings = load({"local": {"port": port}}, project=tmp_path)
        wanted = environment_checks.wanted_ports(settings, "local")
        assert f"{port} for api" not in only(environment_checks.ports(layout, wanted)).what
        found = only(environment_checks.ports(Layout(state=tmp_path / "another"), wanted))
    assert found.level == WARNING
    assert f"{port} for api (pid " in found.what
    assert f"{port} for api" not in only(environment_checks.ports(layout, wanted)).what


@pytest.mark.parametrize("name", ["", "secrets.json", "admin-password", "airflow-users.json"])
def test_a_secret_that_others_can_read_is_a_problem(layout: Layout, name: str) -> None:
    assert only(environment_checks.secrets(layout)).level == OK
    Secrets.ensure(layout.secrets)
    assert only(environment_checks.secrets(layout)).level == OK
    path = layout.secrets / name
    path.chmod(path.stat().st_mode | 0o040)
    found = only(environment_checks.secrets(layout))
    assert found.level == PROBLEM
    assert f"chmod {'600' if name else '700'} {path}" in found.advice


def test_a_description_with_variables_is_secret_too(layout: Layout) -> None:
    Secrets.ensure(layout.secrets)
    folder = layout.state / "run" / "programs"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "scheduler-1.json").touch(0o644)
    assert "scheduler-1.json" in only(environment_checks.secrets(layout)).what


def test_an_up_that_is_under_way_and_one_that_was_killed(layout: Layout) -> None:
    assert only(environment_checks.bringing_up(layout)).level == OK
    layout.state.mkdir()
    file = layout.state / "lock"
    for text in ("", "{", "[]", '{"pid": null}'):
        file.write_text(text)
        assert only(environment_checks.bringing_up(layout)).level == OK
    file.write_text(json.dumps({"pid": os.getpid(), "since": 1.0, "command": "invoke up"}))
    assert f"pid {os.getpid()}" in only(environment_checks.bringing_up(layout)).what
    file.write_text(json.dumps({"pid": 2**22 + 1, "since": 1.0, "command": "invoke up"}))
    found = only(environment_checks.bringing_up(layout))
    assert found.level == WARNING
    assert "was killed" in found.what


def component(name: str, state: str, *, healthy: bool | None = None) -> Component:
    return Component(name=name, state=state, detail="pid 7", healthy=healthy)


def test_components(layout: Layout) -> None:
    good = [component("sync", "running"), component("scheduler", "running", healthy=True)]
    assert only(environment_checks.components(layout, lambda: good)).level == OK
    bad = [component("triggerer", "failed"), component("scheduler", "running", healthy=False)]
    found = list(environment_checks.components(layout, lambda: [*good, *bad]))
    assert levels(found) == [PROBLEM, PROBLEM]
    assert "invoke logs triggerer" in found[0].advice
    assert "not healthy" in found[1].what


@pytest.mark.usefixtures("sync")
def test_an_environment_that_was_up_or_whose_supervisor_is_gone(layout: Layout) -> None:
    def check() -> Finding:
        return only(environment_checks.components(layout, list))

    assert check().level == WARNING  # The environment's file is there.
    (layout.state / "environment.json").unlink()
    assert check() == Finding(OK, "not up; `invoke up` starts it")
    with process_of(layout.state, "print()"):
        found = check()
    assert found.level == PROBLEM
    assert found.what.startswith("1 process without a supervisor")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, [OK]),
        ({"settled": False}, [WARNING]),
        ({"halted": "the folder is empty"}, [PROBLEM]),
        ({"connected": False}, [PROBLEM]),
        ({"problems": {"x": "a socket"}}, [OK, WARNING]),
        ({"errors": {"a.py": "Traceback with a secret"}}, [OK, WARNING]),
    ],
)
def test_the_sync(
    layout: Layout, sync: FakeSync, state: dict[str, Any], expected: list[str]
) -> None:
    sync.state |= state
    found = list(environment_checks.sync(layout))
    assert levels(found) == expected
    assert not any("Traceback" in finding.what for finding in found)


def test_a_sync_that_does_not_answer(layout: Layout, sync: FakeSync) -> None:
    sync.stop()
    assert only(environment_checks.sync(layout)).level == WARNING
    (layout.state / "environment.json").unlink()
    assert list(environment_checks.sync(layout)) == []
