from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from invoke import Collection, Config, Exit, Program

import tasks
from tests.cluster.debian import cluster as test_bed
from windsock import config, doctor, flow
from windsock.commands.command import check_invoke_yaml
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.flow import TestRequest as Request

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(tasks.__file__).parent
NEEDS = {"dags.trigger": ["sales"]}
"""The words that a command cannot do without."""

HEAVY = ["docker", "httpx", "kubernetes", "psutil", "pytest", "rich", "supervisor", "watchdog"]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a test, `down --volumes` must not find the project's own state."""
    monkeypatch.setenv("INVOKE_WINDSOCK_STATE", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A command sets handlers for its whole process, which here is pytest."""
    kept = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    for name in kept:
        signal.signal(name, signal.SIG_DFL)  # The tests may run under nohup.
    yield
    for name, handler in kept.items():
        signal.signal(name, handler)


def commands() -> list[str]:
    return sorted(tasks.namespace.task_names)


def flags_of_commands() -> dict[str, dict[str, str]]:
    """Command → flag or positional argument → its help."""
    # Loaded anew: Invoke takes the help out of a task when it first parses for it.
    found = importlib.util.spec_from_file_location("fresh_tasks", tasks.__file__)
    assert found is not None
    assert found.loader is not None
    fresh = importlib.util.module_from_spec(found)
    found.loader.exec_module(fresh)
    return {
        name: {str(item.name): item.help or "" for item in fresh.namespace[name].get_arguments()}
        for name in commands()
    }


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    program = Program(namespace=Collection.from_module(tasks), config_class=Config, name="invoke")
    try:
        program.run(["invoke", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


class Recorder:
    """Stands for all flows: what was called, with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: int | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.settings: list[Any] = []
        flows = (
            "up down status logs restart attach join test ci shell open_ui version "
            "dags_list dags_trigger dags_errors dags_check settings_export "
            "build render diff deploy secret"
        )
        for module, names in ((flow, flows), (doctor, "run"), (test_bed, "up down")):
            for name in names.split():
                monkeypatch.setattr(module, name, self._record(name, answer))

    def _record(self, name: str, answer: int | None) -> Any:
        def call(work: Any, *arguments: Any, **options: Any) -> int | None:
            self.settings.append(getattr(work, "settings", None))
            self.calls.append((name, arguments, options))
            return answer

        return call


@pytest.mark.parametrize(
    ("line", "call", "options"),
    [
        ("up", "up", {"detach": False, "dry_run": False, "replace": False}),
        ("up --detach", "up", {"detach": True, "dry_run": False, "replace": False}),
        ("up --dry-run", "up", {"detach": False, "dry_run": True, "replace": False}),
        ("down", "down", {"volumes": False, "cluster": False}),
        ("down --volumes", "down", {"volumes": True, "cluster": False}),
        ("down --cluster", "down", {"volumes": False, "cluster": True}),
        ("build", "build", {}),
        ("render --target kind", "render", {"tilt": False}),
        ("render --tilt --context lab", "render", {"tilt": True}),
        ("deploy --target okteto", "deploy", {}),
        ("secret --target kind", "secret", {}),
        ("diff", "diff", {}),
        ("status --json", "status", {"as_json": True}),
        ("logs", "logs", {"component": "", "follow": False, "lines": 40}),
        ("logs sync -f -l 3", "logs", {"component": "sync", "follow": True, "lines": 3}),
        ("restart", "restart", {"component": ""}),
        ("restart scheduler", "restart", {"component": "scheduler"}),
        ("sync", "attach", {"allow_empty": False, "take_over": False}),
        ("sync --target kind", "join", {}),
        ("sync --context lab", "join", {}),
        ("sync --allow-empty", "attach", {"allow_empty": True, "take_over": False}),
        ("sync --take-over", "attach", {"allow_empty": False, "take_over": True}),
        ("ci", "ci", {"junit": "junit.xml"}),
        ("ci --junit out.xml", "ci", {"junit": "out.xml"}),
        ("dags.list --json", "dags_list", {"as_json": True}),
        (
            "dags.trigger sales",
            "dags_trigger",
            {"dag_id": "sales", "conf": "", "wait": False, "timeout": 300.0, "as_json": False},
        ),
        (
            "dags.trigger sales --wait --timeout 2 --json --conf {}",
            "dags_trigger",
            {"dag_id": "sales", "conf": "{}", "wait": True, "timeout": 2.0, "as_json": True},
        ),
        ("dags.errors", "dags_errors", {"as_json": False}),
        ("dags.check --json", "dags_check", {"as_json": True}),
        ("settings.export", "settings_export", {"output": ""}),
        ("settings.export --output a.yaml", "settings_export", {"output": "a.yaml"}),
        ("open", "open_ui", {}),
        ("doctor --json", "run", {"as_json": True}),
        ("version", "version", {"as_json": False}),
    ],
)
def test_a_command_calls_its_flow(
    monkeypatch: pytest.MonkeyPatch, line: str, call: str, options: dict[str, Any]
) -> None:
    recorder = Recorder(monkeypatch)
    assert run(*line.split()) == 0
    assert [(name, given) for name, _, given in recorder.calls] == [(call, options)]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("test", Request()),
        ("test a.py b", Request(paths=("a.py", "b"))),
        (
            "test -k load --affected main --watch --junit j.xml --parallel 4 a.py",
            Request(
                paths=("a.py",),
                keyword="load",
                affected="main",
                watch=True,
                junit="j.xml",
                parallel=4,
            ),
        ),
    ],
)
def test_test_takes_paths_and_options(
    monkeypatch: pytest.MonkeyPatch, line: str, request_: Request
) -> None:
    recorder = Recorder(monkeypatch)
    assert run(*line.split()) == 0
    assert recorder.calls == [("test", (request_,), {})]


def test_what_follows_two_dashes_is_the_shells_word_for_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch, answer=9)
    line = ["shell", "--", "airflow", "dags", "list", "--output", "a b"]
    monkeypatch.setattr(sys, "argv", ["invoke", *line])
    assert run(*line) == 9
    assert recorder.calls == [("shell", (), {"command": line[2:]})]


def test_a_flag_wins_over_a_variable_which_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(monkeypatch)
    monkeypatch.setenv("INVOKE_WINDSOCK_DAGS", "from-variable")
    monkeypatch.setenv("INVOKE_WINDSOCK_LOCAL_PORT", "9191")
    monkeypatch.setenv("INVOKE_WINDSOCK_UP_TIMEOUT", "7.5")
    run("up")
    run("up", "--dags", "from-flag")
    assert [settings.dags for settings in recorder.settings] == ["from-variable", "from-flag"]
    assert recorder.settings[0].local.port == 9191
    assert recorder.settings[0].up_timeout == 7.5


@pytest.mark.parametrize("command", ["up", "down", "sync", "deploy", "ci"])
def test_the_sync_is_taken_over_only_where_the_flag_says_so(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    recorder = Recorder(monkeypatch)
    run(command)
    run(command, "--take-over")
    assert [settings.cluster.take_over for settings in recorder.settings] == [False, True]


@pytest.mark.parametrize(
    ("word", "runs"),
    [("false", False), ("False", False), ("0", False), ("", False), ("1", True), ("true", True)],
)
def test_a_variable_is_read_as_the_word_it_is(
    monkeypatch: pytest.MonkeyPatch, word: str, *, runs: bool
) -> None:
    recorder = Recorder(monkeypatch)
    monkeypatch.setenv("INVOKE_WINDSOCK_RUN_SCHEDULES", word)
    run("up")
    assert recorder.settings[0].run_schedules is runs


OF_A_TYPE = (
    *("LOCAL_PORT", "UP_TIMEOUT", "SYNC_KEEP_SNAPSHOTS"),
    *("RUN_SCHEDULES", "CLUSTER_ALLOWED_CONTEXTS"),
)


@pytest.mark.parametrize("name", OF_A_TYPE)
def test_a_variable_of_the_wrong_type_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv(f"INVOKE_WINDSOCK_{name}", "many")
    assert run("status") == ConfigurationError.exit_code
    said = capsys.readouterr().err
    assert "is 'many'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", commands())
@pytest.mark.parametrize(
    "error", [DagError, ConfigurationError, EnvironmentFailure, DeadlineExceeded]
)
def test_every_command_tells_a_failure_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    error: type[WindsockError],
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("it broke", "mend it")

    monkeypatch.setattr(config, "load", fail)
    assert run(name, *NEEDS.get(name, [])) == error.exit_code
    assert capsys.readouterr() == ("", "✗ it broke\n  mend it\n")


@pytest.mark.parametrize("name", commands())
def test_every_command_ends_quietly_at_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "load", interrupt)
    assert run(name, *NEEDS.get(name, [])) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_closed_terminal_and_a_cancelled_job_are_interrupts(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def end(*_: Any, **__: Any) -> Any:
        signal.raise_signal(number)

    monkeypatch.setattr(flow, "up", end)
    assert run("up") == 130


def test_under_nohup_a_closed_terminal_is_no_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(flow, "up", lambda *_, **__: signal.raise_signal(signal.SIGHUP))
    assert run("up") == 0


@pytest.mark.parametrize("code", [0, 1, 3, 5])
def test_the_exit_code_of_a_flow_is_that_of_its_command(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    Recorder(monkeypatch, answer=code)
    assert run("status") == code


def child(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_listing_the_commands_imports_nothing_heavy() -> None:
    told = child(
        "-c",
        "import json, sys\n"
        "from invoke.main import program\n"
        "before = set(sys.modules)\n"
        "try:\n"
        "    program.run(['invoke', '--list'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)\n",
    )
    imported = {name.partition(".")[0] for name in json.loads(told.stderr)}
    assert imported.isdisjoint({*HEAVY, "yaml"})
    windsock = {name for name in json.loads(told.stderr) if name.startswith("windsock.")}
    assert {name.split(".")[1] for name in windsock} == {"commands", "config", "errors"}
    for name in commands():
        assert f"  {name} " in told.stdout


def test_on_windows_a_sentence_names_wsl_instead_of_a_traceback() -> None:
    told = child(
        "-c",
        "import signal, sys\n"
        "from invoke.main import program\n"
        "sys.modules.update(dict.fromkeys(['fcntl', 'grp', 'pwd', 'resource', 'termios']))\n"
        "del signal.SIGHUP\n"
        "sys.platform = 'win32'\n"
        "program.run(['invoke', 'up'])\n",
    )
    assert told.returncode == 2
    assert "wsl --install" in told.stderr + told.stdout
    assert "Traceback" not in told.stderr


def test_every_command_and_flag_is_told_in_its_help() -> None:
    for name, flags in flags_of_commands().items():
        assert tasks.namespace[name].__doc__
        assert all(flags.values()), (name, flags)


def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path) -> None:
    """As in `invoke logs | head -1`."""
    logs = tmp_path / "state" / "logs"
    logs.mkdir(parents=True)
    (logs / "sync.log").write_text("a line\n" * 200_000)
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", "logs", "sync", "--lines", "200000"],
        cwd=PROJECT,
        env={
            **os.environ,
            "INVOKE_WINDSOCK_STATE": str(tmp_path / "state"),
            "PYTHONUNBUFFERED": "",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.readline() == "a line\n"
        reader.stdout.close()
        said = reader.stderr.read()
        assert reader.wait(timeout=30) == 0
    assert said == ""


def test_a_failure_in_a_real_process_has_no_traceback(tmp_path: Path) -> None:
    told = child(
        *("-m", "invoke", "dags.list"), INVOKE_WINDSOCK_STATE=str(tmp_path / "state"), NO_COLOR="1"
    )
    assert told.returncode == 3
    assert told.stdout == ""
    assert told.stderr.startswith("✗ no environment is up here\n  Run `invoke up`")


@pytest.mark.parametrize("text", ["windsock: [", "- dags", "windsock: \x00"])
def test_a_broken_invoke_yaml_is_named_without_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "invoke.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(Exit) as caught:
        check_invoke_yaml(path)

    assert caught.value.code == ConfigurationError.exit_code
    assert str(path) in str(caught.value.message)


def test_a_sound_an_empty_and_a_missing_invoke_yaml_pass(tmp_path: Path) -> None:
    path = tmp_path / "invoke.yaml"
    check_invoke_yaml(path)
    path.write_text("", encoding="utf-8")
    check_invoke_yaml(path)
    path.write_text("windsock: {dags: dags}", encoding="utf-8")
    check_invoke_yaml(path)


def test_a_context_is_a_target_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    assert run("up", "--context", "lab") == 0
    assert recorder.settings[0].target == "context"
    assert recorder.settings[0].cluster.context == "lab"
    assert recorder.settings[0].cluster.namespace == "windsock", "its other settings stay"
