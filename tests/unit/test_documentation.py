"""What the documentation says of commands and settings is what the code does."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import tasks
from tests.unit.commands.test_commands import Recorder, commands, run
from windsock import config, errors
from windsock.commands.command import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(tasks.__file__).parent
DOCS = PROJECT / "docs"
CODE = re.compile(r"`([^`]+)`")
FREE_KEYS = {"airflow", "sync.folders"}
"""The settings whose keys are not known beforehand: no variable can name them."""
NO_VARIABLE = {*FREE_KEYS, "cluster.allowed_contexts"}
"""Neither can one hold a list."""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a test, `down --volumes` must not find the project's own state."""
    monkeypatch.setenv("INVOKE_WINDSOCK_STATE", str(tmp_path / "state"))


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section.name` → default."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and prefix + name not in FREE_KEYS:
            found |= flat(value, f"{name}.")
        else:
            found[prefix + name] = value
    return found


DEFAULTS = flat(config.defaults())


def settings_table() -> dict[str, list[str]]:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    section = text.partition("## All settings")[2].partition("\n## ")[0]
    return {row[0].strip("`"): row[1:] for row in rows(section) if row[0].startswith("`")}


def variable(name: str) -> str:
    return "INVOKE_WINDSOCK_" + name.upper().replace(".", "_")


def test_every_setting_is_documented_with_its_default_and_its_variable() -> None:
    table = settings_table()
    assert list(table) == list(DEFAULTS)
    for name, (default, meaning, named) in table.items():
        shown = f"`{DEFAULTS[name]}`" if DEFAULTS[name] != "" else "(empty)"
        assert default == shown
        assert meaning.endswith(".")
        assert named == ("none" if name in NO_VARIABLE else f"`{variable(name)}`")


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in NO_VARIABLE])
def test_every_documented_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    default = DEFAULTS[name]
    changed: Any = default + type(default)(1) if name != "sync.quiet" else 0.25
    if isinstance(default, str):
        checked = {"target": "local", "rebuild": "never", "cluster.registry": "ghcr.io/anna"}
        changed = checked.get(name, "changed")
    monkeypatch.setenv(variable(name), str(changed))
    assert run("up") == 0
    found: Any = recorder.settings[0]
    for part in name.split("."):
        found = getattr(found, part)
    assert found == changed


def test_invoke_yaml_holds_known_settings_with_their_defaults() -> None:
    """The file in the repository changes nothing: it shows what people change."""
    written = yaml.safe_load((PROJECT / "invoke.yaml").read_text(encoding="utf-8"))["windsock"]
    for name, value in flat(written).items():
        assert value == DEFAULTS[name], name


# --- commands -------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    parts = re.split(r"^### `invoke (\S+)`$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def flags(name: str) -> set[str]:
    """Every word that a command takes, as it is typed."""
    found: set[str] = set()
    # Invoke takes the help out of a task whose arguments are asked for; another test reads it.
    for argument in copy.deepcopy(tasks.namespace[name]).get_arguments():
        if argument.positional:
            found.add(str(argument.name).replace("_", "-"))
            continue
        found |= {f"-{word}" if len(word) == 1 else f"--{word}" for word in argument.names}
        if argument.kind is bool and argument.default is True:
            found.add(f"--no-{argument.name}")
    return found


def test_every_command_is_documented_and_no_other() -> None:
    assert sorted(sections()) == commands()


@pytest.mark.parametrize("name", commands())
def test_every_flag_is_documented_and_no_other(name: str) -> None:
    first_cells = [row[0] for row in rows(sections()[name])]
    assert {word for cell in first_cells for word in CODE.findall(cell)} == flags(name)


def test_every_example_is_a_command_line_that_is_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    examples = [
        line
        for block in re.findall(r"```shell\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(examples) > 10
    for line in examples:
        recorder = Recorder(monkeypatch)
        program, *words = shlex.split(line)
        assert program == "invoke"
        assert run(*words) == 0
        assert len(recorder.calls) == 1


def test_the_exit_codes_are_those_of_the_errors() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = text.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(row[0]) for row in rows(section) if row[0].isdigit()}
    kinds = (
        errors.DagError,
        errors.ConfigurationError,
        errors.EnvironmentFailure,
        errors.DeadlineExceeded,
    )
    assert listed == {0, INTERRUPTED, *(kind.exit_code for kind in kinds)}
    for row in rows(section):
        if row[0].isdigit():
            assert f"| {row[0]} " in str(errors.__doc__)


def test_the_readme_names_every_command() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Commands")[2].partition("\n## ")[0]
    named = {
        word.removeprefix("invoke ").split(" ")[0]
        for row in rows(table)
        for word in CODE.findall(row[0])
    }
    assert named == set(commands())


# --- links ----------------------------------------------------------------------------------------


def pages() -> list[Path]:
    return sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_link_within_the_repository_leads_nowhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]
    assert missing == []
