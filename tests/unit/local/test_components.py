from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import windsock
from windsock.config import Settings, load
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.components import (
    DAG_PROCESSOR_SOCKET,
    PORTS,
    SYNC_STAGE,
    Layout,
    airflow_programs,
    airflow_variables,
    ensure_runtime,
    inherited_variables,
)
from windsock.local.ports import PortChoice
from windsock.local.postgres import Postgres
from windsock.local.secrets import Secrets
from windsock.local.venv import Venv
from windsock.runtime.start import IMPORTS

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout(state=tmp_path_factory.mktemp("l") / "state")  # Short: sockets lie in it.


@pytest.fixture
def secrets(layout: Layout) -> Secrets:
    layout.state.mkdir()
    return Secrets.ensure(layout.secrets)


def _settings(folder: Path, **values: Any) -> Settings:
    return load({"dags": str(folder / "dags"), **values}, project=folder)


def _variables(
    settings: Settings, layout: Layout, secrets: Secrets, *, api: int = 8080
) -> dict[str, str]:
    ports = {
        name: PortChoice(name=name, port=port, wanted=port)
        for name, port in {"api": api, **PORTS}.items()
    }
    postgres = Postgres(layout.database, port=5433, secrets=secrets)
    return airflow_variables(
        settings, layout, secrets=secrets, postgres=postgres, ports=ports, runtime=Path("/rt")
    )


def test_everything_lies_below_the_state_folder(layout: Layout) -> None:
    places = (
        *(layout.venvs, layout.secrets, layout.database, layout.migrated, layout.store),
        *(layout.home, layout.runtimes, layout.ports),
    )
    assert all(path.is_relative_to(layout.state) for path in places)
    assert len(set(places)) == len(places)


def test_wiping_the_database_forgets_that_it_was_migrated(layout: Layout) -> None:
    assert layout.migrated.parent == layout.database.parent


def test_airflow_listens_on_loopback_only(tmp_path: Path, layout: Layout, secrets: Secrets) -> None:
    variables = _variables(_settings(tmp_path), layout, secrets, api=8123)
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert variables["AIRFLOW__API__PORT"] == "8123"
    assert "@127.0.0.1:5433/" in variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def test_every_component_has_the_keys_it_needs(
    tmp_path: Path, layout: Layout, secrets: Secrets
) -> None:
    variables = _variables(_settings(tmp_path), layout, secrets)
    assert variables["AIRFLOW__CORE__FERNET_KEY"] == secrets.fernet_key
    assert variables["AIRFLOW__API_AUTH__JWT_SECRET"] == secrets.jwt_secret
    assert variables["AIRFLOW__API__SECRET_KEY"] == secrets.api_secret_key
    # The users file, not its content: the file is what Airflow reads.
    assert secrets.admin_password not in "".join(variables.values())


def test_the_parse_knows_where_the_users_own_files_are(
    tmp_path: Path, layout: Layout, secrets: Secrets
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "dags").symlink_to(tmp_path / "real")
    settings = _settings(tmp_path, parse={"memory_limit_mb": 123}, local={"parallelism": 9})
    variables = _variables(settings, layout, secrets)
    # A file that has its path: another DAG folder restarts nothing of Airflow.
    assert variables["WINDSOCK_DAGS_FOLDER"] == str(layout.source)
    other = _settings(tmp_path, dags="real")
    assert _variables(other, layout, secrets) == _variables(_settings(tmp_path), layout, secrets)
    assert variables["WINDSOCK_PARSE_MEMORY_MB"] == "123"
    assert variables["AIRFLOW__CORE__PARALLELISM"] == "9"
    assert variables["WINDSOCK_DAG_PROCESSOR_SOCKET"] == str(layout.socket(DAG_PROCESSOR_SOCKET))
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_programs_are_those_that_the_runtime_can_start(layout: Layout) -> None:
    venv = Venv(folder=layout.venvs / "x", digest="x", created=False)
    programs = airflow_programs(layout, venv, {"A": "b"})
    assert {program.name for program in programs} == set(IMPORTS)
    for program in programs:
        assert program.command[:4] == (
            *(str(venv.python), "-m", "windsock.runtime.start"),
            program.name,
        )
        assert json.loads(program.describe({}))["environment"] == {"A": "b"}


def test_the_sync_stops_first_and_the_database_last(layout: Layout, secrets: Secrets) -> None:
    venv = Venv(folder=layout.venvs / "x", digest="x", created=False)
    stages = {program.name: program.stage for program in airflow_programs(layout, venv, {})}
    database = Postgres(layout.database, port=5433, secrets=secrets).program().stage
    assert (
        database
        < stages["api-server"]
        < min(stages["scheduler"], stages["dag-processor"], stages["triggerer"])
    )
    assert max(stages.values()) < SYNC_STAGE


def test_airflow_takes_over_the_users_words_but_no_other_airflows() -> None:
    own = {
        "HOME": "/home/me",
        "AIRFLOW_CONN_SHOP": "http://shop",
        "AIRFLOW_VAR_TERMS": "{}",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW_HOME": "/home/me/airflow",
        "PYTHONPATH": "/home/me/lib",
        "VIRTUAL_ENV": "/home/me/venv",
        "PATH": "/bin",
    }
    assert inherited_variables(own) == {
        "HOME": "/home/me",
        "AIRFLOW_CONN_SHOP": "http://shop",
        "AIRFLOW_VAR_TERMS": "{}",
        "PATH": "/bin",
    }
    assert inherited_variables(own, scripts=Path("/venv/bin"))["PATH"] == "/venv/bin:/bin"


def test_airflow_gets_the_runtime_and_nothing_else_of_the_toolkit(layout: Layout) -> None:
    folder = ensure_runtime(layout)
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert "windsock/runtime/processor/manager.py" in copied
    assert {path.split("/")[1] for path in copied} == {
        "__init__.py",
        "events.py",
        "json_lines.py",
        "runtime",
    }
    assert [path.name for path in layout.runtimes.iterdir()] == [folder.name]


def test_a_runtime_that_processes_import_from_is_never_touched(layout: Layout) -> None:
    folder = ensure_runtime(layout)
    (folder / "sign").touch()
    assert ensure_runtime(layout) == folder
    assert (folder / "sign").exists()


def test_a_newer_windsock_has_a_runtime_of_its_own(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ensure_runtime(layout)
    newer = tmp_path / "newer"
    package = Path(windsock.__file__).parent
    shutil.copytree(package / "runtime", newer / "runtime")
    for name in ("events.py", "json_lines.py"):
        shutil.copy(package / name, newer)
    (newer / "__init__.py").write_text("__version__ = 'newer'")
    monkeypatch.setattr(windsock, "__file__", str(newer / "__init__.py"))
    new = ensure_runtime(layout)
    assert new != old
    assert old.is_dir()
    assert (new / "windsock" / "__init__.py").read_text() == "__version__ = 'newer'"


def test_two_that_copy_the_runtime_at_once_agree(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename: Callable[[Path, Path], Path] = Path.rename

    def late(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        ensure_runtime(layout)  # The other one, which comes first.
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    folder = ensure_runtime(layout)
    assert [path.name for path in layout.runtimes.iterdir()] == [folder.name]


def test_a_runtime_that_cannot_be_written_is_an_error_in_words(layout: Layout) -> None:
    layout.state.mkdir()
    layout.runtimes.write_text("a file is in the way")
    with pytest.raises(EnvironmentFailure, match="cannot write to"):
        ensure_runtime(layout)


def test_only_a_folder_of_nothing_but_our_own_may_be_removed(layout: Layout) -> None:
    layout.state.mkdir()
    (layout.state / "store").mkdir()
    (layout.state / "lock").touch()
    layout.check_is_ours()
    (layout.state / "thesis.tex").touch()

    with pytest.raises(ConfigurationError, match=r"thesis\.tex"):
        layout.check_is_ours()
