"""What a change of the files that Airflow is built of means on each target."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from windsock.cluster.images import image
from windsock.config import load
from windsock.model import ENVIRONMENT_FILE
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.local.parts import LocalParts
from windsock.targets.local.target import LocalTarget
from windsock.targets.location import Location

ROOT = Path(__file__).parents[3]
AIRFLOW = "api-server, scheduler, dag-processor, triggerer"
BOTH = f"postgres, {AIRFLOW}"
WORKERS = "; workers use it from the next task on"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    (tmp_path / "docker" / "requirements.txt").write_text("-r more.txt\n")
    (tmp_path / "docker" / "more.txt").write_text("humanize\n")
    (tmp_path / "docker" / "certs" / "ours.crt").write_text("PEM")
    return tmp_path


@pytest.fixture
def local(project: Path) -> LocalTarget:
    settings = load({"state": "state"}, project=project)
    return LocalTarget(LocalParts(settings=settings, variables={}))


@pytest.fixture
def cluster(project: Path) -> ClusterTarget:
    place = Location(target="context", context="lab", namespace="mine")
    return ClusterTarget(
        Parts(settings=load({"state": "state"}, project=project), location=place, variables={})
    )


def test_the_local_target_watches_the_files_of_every_target(
    local: LocalTarget, cluster: ClusterTarget, project: Path
) -> None:
    assert set(cluster.sources()) <= set(local.sources())
    built_of = set(local.sources()) - {project / ".env"}
    named = {str(path.relative_to(project / "docker")) for path in built_of}
    assert named >= {"requirements.txt", "more.txt", "requirements.lock"}
    assert named >= {"packages.txt", "Dockerfile", "certs/ours.crt"}


@pytest.mark.parametrize("name", ["requirements.txt", "more.txt", "requirements.lock"])
def test_a_requirement_means_another_venv(local: LocalTarget, project: Path, name: str) -> None:
    meaning = local.meaning({project / "docker" / name})
    assert meaning == f"Airflow's venv must be rebuilt, and {AIRFLOW} restarted"


@pytest.mark.parametrize("name", ["packages.txt", "Dockerfile", "certs/ours.crt"])
def test_what_images_are_made_of_means_nothing_here(
    local: LocalTarget, project: Path, name: str
) -> None:
    assert local.meaning({project / "docker" / name}) == ""


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        (
            "requirements.txt",
            f"the airflow image must be rebuilt, and {AIRFLOW} restarted{WORKERS}",
        ),
        ("more.txt", f"the airflow image must be rebuilt, and {AIRFLOW} restarted{WORKERS}"),
        ("postgres.sh", "the postgres image must be rebuilt, and postgres restarted"),
        (
            "Dockerfile",
            f"the postgres and airflow images must be rebuilt, and {BOTH} restarted{WORKERS}",
        ),
    ],
)
def test_in_a_cluster_it_means_another_image(
    cluster: ClusterTarget, project: Path, name: str, meaning: str
) -> None:
    assert cluster.meaning({project / "docker" / name}) == meaning


def test_a_cluster_goes_back_to_the_images_that_it_was_brought_up_with(
    cluster: ClusterTarget, project: Path
) -> None:
    state = project / "state"
    (project / "dags").mkdir()
    state.mkdir(mode=0o700)
    (state / ENVIRONMENT_FILE).write_text("{}")
    assert cluster.running() is None  # Its processes on this machine do not run.
    before = cluster.parts.images.names()
    (project / "docker" / "packages.txt").write_text("libgomp1\n")
    assert image.wanted(cluster.parts.settings).airflow != before.airflow
    assert cluster.parts.images.names() == before


def test_requirements_that_do_not_exist_yet_are_watched(
    local: LocalTarget, cluster: ClusterTarget, project: Path
) -> None:
    requirements = project / "docker" / "requirements.txt"
    requirements.unlink()
    assert requirements in local.sources()
    assert requirements in cluster.sources()


def test_another_variable_in_the_environment_file_means_a_restart(
    local: LocalTarget, cluster: ClusterTarget, project: Path
) -> None:
    assert local.meaning({project / ".env"}) == f"{AIRFLOW} must be restarted"
    assert cluster.meaning({project / ".env"}) == "Airflow must be restarted"
