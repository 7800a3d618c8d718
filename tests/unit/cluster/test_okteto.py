from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster import okteto
from windsock.cluster.images.image import Images
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cluster.fake_api import FakeApi

INSTANCE = "https://okteto.example.com"
WANTED = Images(airflow="windsock-airflow:1", postgres="windsock-postgres:2")
GIVEN = {
    "OKTETO_BUILD_AIRFLOW_IMAGE": "r.example/anna/airflow@sha256:1",
    "OKTETO_BUILD_POSTGRES_IMAGE": "r.example/anna/postgres@sha256:2",
}


def store(home: Path, **contexts: dict[str, Any]) -> dict[str, str]:
    """The variables of a user whose context file holds these; the first is the current one."""
    folder = home / ".okteto" / "context"
    folder.mkdir(parents=True)
    current = next(iter(contexts), "")
    (folder / "config.json").write_text(
        json.dumps({"contexts": contexts, "current-context": current})
    )
    return {"HOME": str(home)}


def test_in_the_installer_the_variables_say_it(tmp_path: Path) -> None:
    found = okteto.place(
        {"HOME": str(tmp_path), "OKTETO_CONTEXT": f"{INSTANCE}/", "OKTETO_NAMESPACE": "anna"}
    )
    assert found == ("okteto_example_com", "anna")


def test_on_a_laptop_the_context_file_says_it(tmp_path: Path) -> None:
    variables = store(tmp_path, **{INSTANCE: {"namespace": "anna", "isOkteto": True, "more": 1}})
    assert okteto.place(variables) == ("okteto_example_com", "anna")


def test_a_variable_wins_over_the_context_file(tmp_path: Path) -> None:
    variables = store(tmp_path, **{INSTANCE: {"namespace": "anna", "isOkteto": True}})
    found = okteto.place({**variables, "OKTETO_NAMESPACE": "preview-7"})
    assert found == ("okteto_example_com", "preview-7")


def test_a_folder_of_ones_own_is_read(tmp_path: Path) -> None:
    store(tmp_path, **{INSTANCE: {"namespace": "anna", "isOkteto": True}})
    found = okteto.place({"HOME": "/nowhere", "OKTETO_FOLDER": str(tmp_path / ".okteto")})
    assert found == ("okteto_example_com", "anna")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("production", {"namespace": "shop", "isOkteto": False}),
        ("production", {"namespace": "shop"}),
        (INSTANCE, {"namespace": "shop", "isOkteto": False}),
    ],
)
def test_a_cluster_that_only_has_a_name_in_okteto_is_refused(
    tmp_path: Path, name: str, entry: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="is no Okteto instance") as caught:
        okteto.place(store(tmp_path, **{name: entry}))
    assert f"--context {name}" in caught.value.hint


def test_without_a_context_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Okteto has no context") as caught:
        okteto.place({"HOME": str(tmp_path)})
    assert "okteto context use" in caught.value.hint


def test_without_a_namespace_it_says_how_to_choose_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no namespace") as caught:
        okteto.place({"HOME": str(tmp_path), "OKTETO_CONTEXT": INSTANCE})
    assert "okteto namespace use" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"contexts": 1}', '{"contexts": {"a": 1}}'])
def test_a_damaged_context_file_is_named(tmp_path: Path, text: str) -> None:
    variables = store(tmp_path)
    (tmp_path / ".okteto" / "context" / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        okteto.place(variables)


# --- what is deployed -----------------------------------------------------------------------------


def workload(kind: str, name: str, image: str) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"template": pod},
    }


def settings(url: str, made_of: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "airflow-settings", "annotations": {okteto.RECIPE: made_of}},
        "data": {"AIRFLOW__API__BASE_URL": url},
    }


RUNNING = (
    workload("Deployment", "airflow-dag-processor", "old/airflow"),
    workload("StatefulSet", "postgres", "old/postgres"),
    settings("https://there", "windsock-airflow:0 windsock-postgres:0"),
)


def deployment(
    api: FakeApi, variables: dict[str, str], *objects: dict[str, Any]
) -> okteto.Deployment:
    for item in objects:
        api.put(item)
    return okteto.deployment(variables, api.cluster(), wanted=WANTED)


def test_what_okteto_has_just_built_is_taken_and_what_it_was_built_of_is_told(api: FakeApi) -> None:
    found = deployment(api, {**GIVEN, "OKTETO_DOMAIN": "okteto.example.com"}, *RUNNING)
    assert [found.images.airflow, found.images.postgres] == list(GIVEN.values())
    assert found.recipe == "windsock-airflow:1 windsock-postgres:2"
    assert found.url == "https://airflow-api-server-room.okteto.example.com"


def test_else_what_runs_is_left_as_it_is(api: FakeApi) -> None:
    found = deployment(api, {}, *RUNNING)
    assert found.images == Images(airflow="old/airflow", postgres="old/postgres")
    assert found.recipe == "windsock-airflow:0 windsock-postgres:0"
    assert found.url == "https://there"


def test_one_image_of_two_is_not_enough(api: FakeApi) -> None:
    found = deployment(api, {"OKTETO_BUILD_AIRFLOW_IMAGE": "new/airflow"}, *RUNNING)
    assert found.images.airflow == "old/airflow"


def test_where_nothing_runs_it_says_what_deploys(api: FakeApi) -> None:
    with pytest.raises(EnvironmentFailure, match="nothing is deployed in namespace room") as c:
        deployment(api, {}, RUNNING[0])
    assert "okteto pipeline deploy" in c.value.hint
