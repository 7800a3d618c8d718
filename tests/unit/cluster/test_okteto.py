from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster import okteto
from windsock.cluster.images.image import Images
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

INSTANCE = "https://okteto.example.com"
WANTED = Images(airflow="windsock-airflow:1", postgres="windsock-postgres:2")
GIVEN = {
    "OKTETO_BUILD_AIRFLOW_IMAGE": "r.example/anna/airflow@sha256:1",
    "OKTETO_BUILD_POSTGRES_IMAGE": "r.example/anna/postgres@sha256:2",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def store(home: Path, **contexts: dict[str, Any]) -> dict[str, str]:
    """The variables of a user whose context file holds these; the first is the current one."""
    folder = home / ".okteto" / "context"
    folder.mkdir(parents=True)
    current = next(iter(contexts), "")
    (folder / "config.json").write_text(
        json.dumps({"contexts": contexts, "current-context": current})
    )
    return {"HOME": str(home)}


def test_in_the_installer_the_variables_say_it(home: Path) -> None:
    found = okteto.place(
        {"HOME": str(home), "OKTETO_CONTEXT": f"{INSTANCE}/", "OKTETO_NAMESPACE": "anna"}
    )
    assert found == okteto.Place(context="okteto_example_com", namespace="anna")


def test_on_a_laptop_the_context_file_says_it(home: Path) -> None:
    variables = store(home, **{INSTANCE: {"namespace": "anna", "isOkteto": True, "more": 1}})
    assert okteto.place(variables) == okteto.Place(context="okteto_example_com", namespace="anna")


def test_a_variable_wins_over_the_context_file(home: Path) -> None:
    variables = store(home, **{INSTANCE: {"namespace": "anna", "isOkteto": True}})
    found = okteto.place({**variables, "OKTETO_NAMESPACE": "preview-7"})
    assert found.namespace == "preview-7"


def test_a_folder_of_ones_own_is_read(home: Path) -> None:
    store(home, **{INSTANCE: {"namespace": "anna", "isOkteto": True}})
    found = okteto.place({"HOME": "/nowhere", "OKTETO_FOLDER": str(home / ".okteto")})
    assert found.namespace == "anna"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("production", {"namespace": "shop", "isOkteto": False}),
        ("production", {"namespace": "shop"}),
        (INSTANCE, {"namespace": "shop", "isOkteto": False}),
    ],
)
def test_a_cluster_that_only_has_a_name_in_okteto_is_refused(
    home: Path, name: str, entry: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="is no Okteto instance") as caught:
        okteto.place(store(home, **{name: entry}))
    assert f"--context {name}" in caught.value.hint


def test_without_a_context_it_says_how_to_get_one(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="Okteto has no context") as caught:
        okteto.place({"HOME": str(home)})
    assert "okteto context use" in caught.value.hint


def test_without_a_namespace_it_says_how_to_choose_one(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="no namespace") as caught:
        okteto.place({"HOME": str(home), "OKTETO_CONTEXT": INSTANCE})
    assert "okteto namespace use" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"contexts": 1}', '{"contexts": {"a": 1}}'])
def test_a_damaged_context_file_is_named(home: Path, text: str) -> None:
    variables = store(home)
    (home / ".okteto" / "context" / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        okteto.place(variables)


# --- what is deployed -----------------------------------------------------------------------------


class Namespace:
    """A namespace that holds some objects; only what `deployment` asks of it."""

    namespace = "anna"

    def __init__(self, *objects: dict[str, Any]) -> None:
        self._objects = objects

    def get(self, _version: str, kind: str, name: str) -> dict[str, Any] | None:
        for item in self._objects:
            if (item["kind"], item["metadata"]["name"]) == (kind, name):
                return item
        return None


def workload(kind: str, name: str, image: str) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"image": image}]}}
    return {"kind": kind, "metadata": {"name": name}, "spec": {"template": pod}}


def settings(url: str, made_of: str) -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "airflow-settings", "annotations": {okteto.RECIPE: made_of}},
        "data": {"AIRFLOW__API__BASE_URL": url},
    }


RUNNING = (
    workload("Deployment", "airflow-dag-processor", "old/airflow"),
    workload("StatefulSet", "postgres", "old/postgres"),
    settings("https://there", "windsock-airflow:0 windsock-postgres:0"),
)


def deployment(variables: dict[str, str], *objects: dict[str, Any]) -> okteto.Deployment:
    namespace: Any = Namespace(*objects)
    return okteto.deployment(variables, namespace, wanted=WANTED)


def test_what_okteto_has_just_built_is_taken_and_what_it_was_built_of_is_told() -> None:
    found = deployment({**GIVEN, "OKTETO_DOMAIN": "okteto.example.com"}, *RUNNING)
    assert [found.images.airflow, found.images.postgres] == list(GIVEN.values())
    assert found.recipe == "windsock-airflow:1 windsock-postgres:2"
    assert found.url == "https://airflow-api-server-anna.okteto.example.com"


def test_else_what_runs_is_left_as_it_is() -> None:
    found = deployment({}, *RUNNING)
    assert found.images == Images(airflow="old/airflow", postgres="old/postgres")
    assert found.recipe == "windsock-airflow:0 windsock-postgres:0"
    assert found.url == "https://there"


def test_one_image_of_two_is_not_enough() -> None:
    found = deployment({"OKTETO_BUILD_AIRFLOW_IMAGE": "new/airflow"}, *RUNNING)
    assert found.images.airflow == "old/airflow"


def test_where_nothing_runs_it_says_what_deploys() -> None:
    with pytest.raises(EnvironmentFailure, match="nothing is deployed in namespace anna") as c:
        deployment({}, RUNNING[0])
    assert "okteto pipeline deploy" in c.value.hint
