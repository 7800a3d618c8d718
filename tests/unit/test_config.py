from __future__ import annotations

import contextlib
import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock import config
from windsock.config import LocalSettings, Settings, load
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path("/project")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of all settings that are numbers."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, (int, float)):
            yield prefix + name


def _with(name: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(config.defaults())
    place = values
    *sections, last = name.split(".")
    for section in sections:
        place = place[section]
    place[last] = value
    return values


def test_the_defaults_are_settings_themselves() -> None:
    assert load(config.defaults(), project=PROJECT) == Settings(project=PROJECT)
    assert load({}, project=PROJECT) == Settings(project=PROJECT)


def test_words_of_the_environment_become_numbers() -> None:
    """`INVOKE_*` variables are text where Invoke knows no type for them."""
    found = load({"local": {"port": "9090"}, "up_timeout": "2.5"}, project=PROJECT)
    assert (found.local.port, found.up_timeout) == (9090, 2.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("~/dags", str(Path.home() / "dags")), ("dags", "/project/dags"), ("/x/dags", "/x/dags")],
)
def test_a_path_is_relative_to_the_project_and_knows_home(value: str, expected: str) -> None:
    assert load({"dags": value}, project=PROJECT).dags_folder == Path(expected)


@pytest.mark.parametrize(
    ("values", "named", "known"),
    [
        ({"dag": "x"}, "windsock.dag is no setting", "dags"),
        ({"local": {"prot": 1}}, "windsock.local.prot is no setting", "port"),
        ({"project": "/x"}, "windsock.project is no setting", "dags"),
    ],
)
def test_a_misspelled_setting_is_refused_with_the_known_ones(
    values: dict[str, Any], named: str, known: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        load(values, project=PROJECT)
    assert known in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"local": 3},
        {"local": {"port": "eighty"}},
        {"local": {"port": 80.5}},
        {"local": {"port": True}},
        {"local": {"port": None}},
        {"local": {"port": 0}},
        {"local": {"port": 65536}},
        {"local": {"parallelism": 0}},
        {"up_timeout": "soon"},
        {"up_timeout": -1},
        {"up_timeout": math.nan},
        {"up_timeout": math.inf},
        {"parse": {"processes": 0}},
        {"parse": {"import_timeout": 0}},
        {"parse": {"memory_limit_mb": -1}},
        {"sync": {"quiet": 0}},
        {"sync": {"quiet": 0.9, "longest": 0.1}},
        {"sync": {"keep_snapshots": 0}},
        {"sync": {"folders": "include"}},
        {"sync": {"folders": {"include": ""}}},
        {"sync": {"folders": {"include": "a/b"}}},
        {"sync": {"folders": {"include": ".."}}},
        {"sync": {"folders": {"include": "same", "other": "same"}}},
        {"sync": {"folders": {"a\0b": "include"}}},
        {"target": "nomad"},
        {"target": ""},
        {"cluster": {"namespace": "Anna's"}},
        {"cluster": {"kind_name": ""}},
        {"cluster": {"overlay": "../.."}},
        {"cluster": {"registry": "https://ghcr.io/anna"}},
        {"cluster": {"registry": "ghcr.io/anna/"}},
        {"cluster": {"registry": "anna"}},
        {"cluster": {"registry": "ghcr.io/Anna"}},
        {"cluster": {"pull_secret": "Anna's"}},
        {"cluster": {"port": 0}},
        {"cluster": {"skip_unserved": "perhaps"}},
        {"cluster": {"allowed_contexts": "production"}},
        {"airflow": "core.parallelism: 3"},
        {"airflow": ["core.parallelism"]},
        {"airflow": {"parallelism": 3}},
        {"airflow": {"core.": 3}},
        {"airflow": {".core.parallelism": 3}},
        {"airflow": {"core parallelism.x y": 3}},
    ],
)
def test_what_cannot_be_used_is_refused_and_says_why(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"windsock\.") as caught:
        load(values, project=PROJECT)
    assert caught.value.hint


@pytest.mark.parametrize(
    "address",
    ["ghcr.io/anna", "docker.io/anna", "127.0.0.1:5000", "localhost/a", "hub:5000/a/b-c_d.e"],
)
def test_a_registry_is_what_names_of_images_begin_with(address: str) -> None:
    assert load({"cluster": {"registry": address}}, project=PROJECT).cluster.registry == address


@pytest.mark.parametrize("name", list(_numbers(config.defaults())))
@pytest.mark.parametrize("value", ["many", [], {}, None, math.nan, -1])
def test_every_number_is_checked(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"windsock.{name}"):
        load(_with(name, value), project=PROJECT)


@given(st.dictionaries(st.sampled_from(sorted(config.defaults())), anything, max_size=3))
def test_whatever_stands_in_the_file_is_used_or_refused(values: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(load(values, project=PROJECT).local, LocalSettings)


@pytest.mark.parametrize(
    ("state", "dags"),
    [
        (".", "dags"),
        ("..", "dags"),
        ("dags", "dags"),
        ("work", "work/dags"),
        ("~", "dags"),
        ("/", "dags"),
        ("dags/.windsock", "dags"),
    ],
)
def test_a_state_folder_that_must_not_be_wiped_is_refused(
    tmp_path: Path, state: str, dags: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"windsock\.state is"):
        load({"state": state, "dags": dags}, project=tmp_path)


def test_a_state_folder_that_leads_to_the_project_by_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match=r"windsock\.state is"):
        load({"state": "link"}, project=tmp_path)


@pytest.mark.parametrize("name", ["state", "dags", "airflow_settings", "requirements", "tests"])
@pytest.mark.parametrize("value", ["a\0b", "~nobody-of-this-name/x", "loop/x"])
def test_what_is_no_path_is_refused(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match=f"windsock.{name} is") as caught:
        load({name: value}, project=tmp_path)
    assert "cannot be used as a path" in caught.value.hint


def test_a_state_folder_outside_the_project_is_fine(tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "elsewhere"
    assert load({"state": str(elsewhere)}, project=tmp_path).state_folder == elsewhere


@pytest.mark.parametrize("folder", [".", "state", "state/deeper", ".."])
def test_a_further_folder_and_the_state_folder_keep_apart(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigurationError, match=r"windsock\.state is"):
        load({"state": "state", "sync": {"folders": {folder: "include"}}}, project=tmp_path)


def test_further_folders_are_found_by_their_names(tmp_path: Path) -> None:
    folders = {"include": "include", "/elsewhere/tools": "tools"}
    settings = load({"sync": {"folders": folders}}, project=tmp_path)
    assert settings.further_folders == {
        "include": tmp_path / "include",
        "tools": Path("/elsewhere/tools"),
    }


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (None, ""), (8, "8"), ("x", "x")]
)
def test_airflow_settings_become_the_text_that_airflow_reads(value: Any, text: str) -> None:
    assert load({"airflow": {"core.x": value}}, project=PROJECT).airflow == {"core.x": text}
    assert load({"airflow": None}, project=PROJECT).airflow == {}
