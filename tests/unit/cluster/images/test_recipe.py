from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.cluster.images import recipe
from windsock.config import Settings
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[4]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    return tmp_path


def tags(project: Path, **changes: str) -> dict[str, str]:
    settings = Settings(project=project, **changes)  # type: ignore[arg-type] # names of its fields
    return {target: recipe.tag(target, recipe.content(settings, target)) for target in recipe.OWN}


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("requirements.lock", "requirements.txt", "packages.txt", "bootstrap.sh"), {"airflow"}),
        (("postgres.sh",), {"postgres"}),
        (("Dockerfile", "install.sh", "certs/ours.crt"), {"airflow", "postgres"}),
        (("certs/README.md", "requirements.in", "notes.txt"), set()),
    ],
)
def test_a_file_changes_the_images_that_are_made_of_it_and_no_other(
    project: Path, names: tuple[str, ...], images: set[str]
) -> None:
    for name in names:
        before = tags(project)
        with (project / "docker" / name).open("ab") as file:
            file.write(b"\n# changed\n")
        after = tags(project)
        assert {target for target in after if after[target] != before[target]} == images, name


def test_requirements_may_lie_elsewhere_or_nowhere(project: Path) -> None:
    (project / "mine.txt").write_text("pandas\n")
    content = recipe.content(Settings(project=project, requirements="mine.txt"), "airflow")
    assert content[recipe.REQUIREMENTS] == b"pandas\n"
    content = recipe.content(Settings(project=project, requirements="none.txt"), "airflow")
    assert content[recipe.REQUIREMENTS] == b""


def test_what_the_requirements_include_goes_along_and_counts(project: Path) -> None:
    """In one text of UTF-8: the build has no other files, and uv no other encoding."""
    mine = project / "mine.txt"
    mine.write_bytes("-r more.txt\r\n".encode("utf-16"))
    (project / "more.txt").write_text("pandas\n-c limits.txt\n")
    (project / "limits.txt").write_text("numpy<3\n")
    settings = Settings(project=project, requirements="mine.txt")
    content = recipe.content(settings, "airflow")
    assert content[recipe.REQUIREMENTS] == b"--constraint constraints.txt\npandas\n"
    assert content[recipe.CONSTRAINTS] == b"numpy<3\n"
    watched = set(recipe.sources(settings, "airflow").values())
    assert {mine, project / "more.txt", project / "limits.txt"} <= watched
    before = tags(project, requirements="mine.txt")
    (project / "limits.txt").write_text("numpy<2\n")
    after = tags(project, requirements="mine.txt")
    assert before["airflow"] != after["airflow"]
    assert before["postgres"] == after["postgres"]


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
    with tarfile.open(fileobj=recipe.context({**contents[0], **contents[1]})) as archive:
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


@pytest.fixture
def pip(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes the variables of a user with this configuration of pip."""

    def configure(**options: str) -> dict[str, str]:
        file = tmp_path / "pip.conf"
        lines = [f"{name.replace('_', '-')} = {value}\n" for name, value in options.items()]
        file.write_text("".join(["[global]\n", *lines]))
        return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file)}

    return configure


def test_an_index_that_pip_uses_here_is_used_in_the_build(
    pip: Callable[..., dict[str, str]],
) -> None:
    index = "https://mirror.example/simple"
    wanted = {
        "UV_DEFAULT_INDEX": index,
        "UV_INSECURE_HOST": "mirror.example",
        "PIP_INDEX_URL": index,
        "PIP_TRUSTED_HOST": "mirror.example",
    }
    found = recipe.arguments(pip(index_url=index, trusted_host="mirror.example"))
    assert wanted.items() <= found.items()


def test_an_index_of_uv_wins(pip: Callable[..., dict[str, str]]) -> None:
    index = {"UV_DEFAULT_INDEX": "https://uv.example"}
    found = recipe.arguments(pip(index_url="https://pip.example") | index)
    assert found["UV_DEFAULT_INDEX"] == "https://uv.example"


@pytest.mark.parametrize("index", ["https://me:secret@mirror.example", "file:///opt/wheels"])
def test_a_password_and_a_folder_of_this_machine_stay_here(
    pip: Callable[..., dict[str, str]], index: str
) -> None:
    assert index not in recipe.arguments(pip(index_url=index)).values()


def test_proxies_go_to_the_build_and_nothing_else_of_the_environment() -> None:
    proxy = {"https_proxy": "http://proxy:3128"}
    found = recipe.arguments({**proxy, "TOKEN": "secret", "PIP_CONFIG_FILE": os.devnull})
    assert found == proxy


def test_the_arguments_are_those_that_the_dockerfile_knows() -> None:
    text = (ROOT / recipe.DOCKERFILE).read_text()
    declared = {line.split()[1] for line in text.splitlines() if line.startswith("ARG ")}
    assert set(recipe.INDEX_ARGUMENTS) == {name for name in declared if "=" not in name}
