from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from windsock.errors import ConfigurationError
from windsock.local.programs import Program, changed_variables, configuration


def _program(**changes: Any) -> Program:
    values: dict[str, Any] = {
        "name": "web",
        "command": ("/bin/web", "--flag"),
        "environment": {"KEY": "value"},
        "folder": Path("/somewhere"),
    }
    return Program(**{**values, **changes})


def _read(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ServerOptions:
    """What the supervisor itself makes of a configuration."""
    for name in ("run", "logs"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder)
    Path("run/supervisord.conf").write_text(text)
    options = ServerOptions()
    options.configfile = "run/supervisord.conf"
    options.process_config(do_usage=False)
    return options


def test_the_supervisor_reads_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [
        _program(name="postgres", stop_signal="INT", stop_seconds=20, stage=0, start_retries=7),
        _program(name="web", restart=False, start_seconds=3),
    ]
    text = configuration(programs, socket="run/s.sock", password="100%-;#", umask=0o027)
    options = _read(text, tmp_path, monkeypatch)
    first, second = (group.process_configs[0] for group in options.process_group_configs)
    assert (first.name, first.stopsignal, first.stopwaitsecs, first.priority) == (
        ("postgres", 2, 20, 0)
    )
    assert first.startretries == 7
    assert (second.name, second.stopsignal, second.startsecs) == ("web", 15, 3)
    assert second.autorestart is False
    for config in (first, second):
        assert config.stopasgroup
        assert config.killasgroup
        assert not config.autostart
        assert config.redirect_stderr
    assert first.stdout_logfile == "logs/postgres.log"  # the supervisor works in the state folder
    assert options.configroot.supervisord.umask == 0o027
    (server,) = options.configroot.supervisord.server_configs
    assert server["password"] == "100%-;#"
    assert server["chmod"] == 0o600


def test_nothing_of_a_program_stands_in_the_configuration() -> None:
    program = _program(
        command=("/bin/secret-command",), environment={"TOKEN": "hush"}, folder=Path("/secret")
    )
    text = configuration([program], socket="s", password="p", umask=0o022)
    assert not [word for word in ("secret", "TOKEN", "hush") if word in text]


@pytest.mark.parametrize(
    "change",
    [
        {"command": ("/bin/web",)},
        {"environment": {"KEY": "other"}},
        {"folder": Path("/elsewhere")},
        {"user": "nobody"},
    ],
)
def test_a_changed_program_has_another_description_file(change: dict[str, Any]) -> None:
    assert _program(**change).description_file != _program().description_file


def test_what_a_program_inherits_does_not_name_its_description_file() -> None:
    program = _program()
    assert program.describe({"TERM": "a"}) != program.describe({"TERM": "b"})
    assert program.description_file == _program().description_file


@given(st.dictionaries(st.text(min_size=1), st.text()), st.lists(st.text()))
def test_any_text_survives_in_a_description(values: dict[str, str], arguments: list[str]) -> None:
    program = _program(environment=values, command=("/bin/x", *arguments))
    text = program.describe({})
    assert text.isascii()
    found = json.loads(text)
    assert found["environment"] == values
    assert found["command"] == ["/bin/x", *arguments]


@pytest.mark.parametrize("name", ["", "Web", "a b", "a:b", "../x", "a\nb", "-x", "a_b"])
def test_a_name_that_the_supervisor_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be named"):
        _program(name=name)


# --- variables that have changed ------------------------------------------------------------------


def written(folder: Path, *programs: Program) -> list[Program]:
    """Programs whose descriptions are those of what runs."""
    (folder / "run" / "programs").mkdir(parents=True, exist_ok=True)
    for each in programs:
        (folder / each.description_file).write_text(each.describe({"HOME": "/root"}))
    return list(programs)


def test_the_variables_are_named_that_what_runs_does_not_have(tmp_path: Path) -> None:
    running = written(tmp_path, _program(environment={"A": "1", "B": "2", "C": "3"}))
    assert changed_variables(tmp_path, running) == []
    wanted = _program(environment={"A": "1", "B": "20", "D": "4"})
    assert changed_variables(tmp_path, [wanted]) == ["B", "C", "D"]


def test_what_differs_by_more_than_variables_is_no_change_of_variables(tmp_path: Path) -> None:
    written(tmp_path, _program(environment={"A": "1"}))
    other = _program(environment={"A": "2"}, command=("other",))
    assert changed_variables(tmp_path, [other]) == []
    assert changed_variables(tmp_path, [_program(name="new")]) == []
    windsocks = _program(environment={"A": "2", "AIRFLOW__CORE__X": "1"})
    assert changed_variables(tmp_path, [windsocks]) == []
