from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.cluster.images import recipe
from windsock.config import Settings
from windsock.errors import ConfigurationError

ROOT = Path(__file__).parents[4]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    return tmp_path


def tags(project: Path, **changes: str) -> dict[str, str]:
    settings = Settings(project=project, **changes)  # type: ignore[arg-type] # names of its fields
    return {target: recipe.tag(target, recipe.content(settings, target)) for target in recipe.OWN}


def changed(project: Path, name: str) -> set[str]:
    """The images that a change of this file concerns."""
    before = tags(project)
    path = project / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n# changed\n")
    after = tags(project)
    return {target for target in after if after[target] != before[target]}


@pytest.mark.parametrize(
    "name",
    ["requirements.lock", "requirements.txt", "packages.txt", "bootstrap.sh"],
)
def test_what_only_airflow_is_made_of_does_not_touch_postgresql(project: Path, name: str) -> None:
    assert changed(project, f"docker/{name}") == {"airflow"}


def test_what_only_postgresql_is_made_of_does_not_touch_airflow(project: Path) -> None:
    assert changed(project, "docker/postgres.sh") == {"postgres"}


@pytest.mark.parametrize("name", ["Dockerfile", "install.sh", "certs/ours.crt"])
def test_what_both_are_made_of_makes_two_other_images(project: Path, name: str) -> None:
    assert changed(project, f"docker/{name}") == {"airflow", "postgres"}


@pytest.mark.parametrize("name", ["certs/README.md", "requirements.in", "notes.txt"])
def test_what_no_image_is_made_of_changes_nothing(project: Path, name: str) -> None:
    assert changed(project, f"docker/{name}") == set()


def test_requirements_may_lie_elsewhere_or_nowhere(project: Path) -> None:
    (project / "mine.txt").write_text("pandas\n")
    content = recipe.content(Settings(project=project, requirements="mine.txt"), "airflow")
    assert content[recipe.REQUIREMENTS] == b"pandas\n"
    content = recipe.content(Settings(project=project, requirements="none.txt"), "airflow")
    assert content[recipe.REQUIREMENTS] == b""


def test_a_missing_file_is_named(project: Path) -> None:
    (project / "docker/bootstrap.sh").unlink()
    with pytest.raises(ConfigurationError, match=r"bootstrap\.sh"):
        tags(project)


def test_the_code_beside_airflow_goes_along_and_nothing_else_of_windsock(project: Path) -> None:
    names = recipe.content(Settings(project=project), "airflow").keys()
    ours = {name for name in names if name.startswith("windsock/")}
    shared = {"windsock/__init__.py", "windsock/events.py", "windsock/json_lines.py"}
    assert shared | {"windsock/runtime/start.py"} <= ours
    assert all(name.startswith("windsock/runtime/") for name in ours - shared)


def test_the_context_holds_all_that_the_dockerfile_copies(project: Path) -> None:
    contents = [recipe.content(Settings(project=project), target) for target in recipe.OWN]
    with tarfile.open(fileobj=recipe.context(*contents)) as archive:
        names = set(archive.getnames())
        assert archive.getmember("docker/bootstrap.sh").mode == 0o755
    for line in (project / recipe.DOCKERFILE).read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert any(Path(name).is_relative_to(source.rstrip("/")) for name in names)


def test_the_same_files_make_the_same_context(project: Path) -> None:
    content = recipe.content(Settings(project=project), "airflow")
    backwards = dict(reversed(content.items()))
    assert recipe.context(content).read() == recipe.context(backwards).read()


@given(
    st.dictionaries(st.text(min_size=1), st.binary(), max_size=4),
    st.dictionaries(st.text(min_size=1), st.binary(), max_size=4),
)
def test_two_contents_have_one_tag_only_if_they_are_equal(
    one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    assert (recipe.tag("airflow", one) == recipe.tag("airflow", two)) == (one == two)


# --- where the build finds packages ---------------------------------------------------------------


def arguments(monkeypatch: pytest.MonkeyPatch, pip: dict[str, str], **own: str) -> dict[str, str]:
    monkeypatch.setattr(recipe, "pip_settings", lambda _: pip)
    monkeypatch.setattr(
        recipe,
        "index_settings",
        lambda _: {"UV_DEFAULT_INDEX": pip["index-url"]} if "index-url" in pip else {},
    )
    return recipe.arguments(own)


def test_an_index_that_pip_uses_here_is_used_in_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    index = "https://mirror.example/simple"
    found = arguments(monkeypatch, {"index-url": index, "trusted-host": "mirror.example"})
    assert found == {
        "UV_DEFAULT_INDEX": index,
        "PIP_INDEX_URL": index,
        "PIP_TRUSTED_HOST": "mirror.example",
    }


def test_what_the_user_told_uv_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arguments(
        monkeypatch, {"index-url": "https://pip.example"}, UV_DEFAULT_INDEX="https://uv.example"
    )
    assert found["UV_DEFAULT_INDEX"] == "https://uv.example"


@pytest.mark.parametrize("index", ["https://me:secret@mirror.example", "file:///opt/wheels"])
def test_a_password_and_a_folder_of_this_machine_stay_here(
    monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    assert arguments(monkeypatch, {"index-url": index}) == {}


def test_proxies_travel_and_nothing_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = arguments(monkeypatch, {}, https_proxy="http://proxy:3128", TOKEN="secret")
    assert found == {"https_proxy": "http://proxy:3128"}


def test_the_arguments_are_those_that_the_dockerfile_knows() -> None:
    text = (ROOT / recipe.DOCKERFILE).read_text()
    declared = {line.split()[1] for line in text.splitlines() if line.startswith("ARG ")}
    assert set(recipe.INDEX_ARGUMENTS) == {name for name in declared if "=" not in name}
