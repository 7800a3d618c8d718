"""The images as both of Docker's builders make them, and what a project can put into them."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cluster import certified_index
from tests.cluster.debian.commands import Commands
from tests.cluster.debian.engine import bridge_address
from tests.cluster.installer import docker, run
from tests.e2e.project import ROOT
from windsock.cluster.images import image, recipe
from windsock.cluster.images.image import TARGETS, Images
from windsock.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.cluster.certified_index import Index
    from tests.cluster.conftest import ClusterAccess

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BUILD_SECONDS = 500
NAME = "windsock-image-test"
"""What the images of these tests are called."""

PACKAGE_LAYERS = 2
"""Of a change of docker/requirements.txt: the file, and what is installed."""


def silent(_: str) -> None:
    """Take progress and say nothing."""


@pytest.fixture(scope="module")
def plain(cluster: ClusterAccess) -> Images:
    """The images of this project's own files, made by the classic builder; they stay."""
    del cluster  # Its engine is the one that builds.
    return image.ensure(Settings(project=ROOT), progress=silent)


def in_container(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    return run("docker", "run", "--rm", name, *command)


# --- two builders ---------------------------------------------------------------------------------


def buildkit() -> str:
    """A docker command that has BuildKit: built in at first, by the plugin buildx since 23."""
    for folder in os.environ["PATH"].split(os.pathsep):
        program = shutil.which("docker", path=folder)
        if program is None:
            continue
        found = re.search(r"version (\d+)", run(program, "--version").stdout)
        built_in = found is not None and int(found[1]) < 23
        if built_in or run(program, "buildx", "version").returncode == 0:
            return program
    pytest.fail("no docker command here has BuildKit")


@pytest.fixture(scope="module")
def of_buildkit(plain: Images) -> Iterator[Images]:
    """Both images of this project's own files, made by BuildKit as a person would."""
    del plain
    program = buildkit()
    options = [f"--build-arg={key}={value}" for key, value in recipe.arguments(os.environ).items()]
    tags = {target: f"{NAME}-{target}:buildkit" for target in TARGETS}
    try:
        for target, tag in tags.items():
            done = subprocess.run(
                [
                    *(program, "build", f"--file={ROOT / recipe.DOCKERFILE}", *options),
                    *(f"--target={target}", f"--tag={tag}", str(ROOT)),
                ],
                env={**os.environ, "DOCKER_BUILDKIT": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=BUILD_SECONDS,
            )
            assert done.returncode == 0, done.stderr
        yield Images(airflow=tags["airflow"], postgres=tags["postgres"])
    finally:
        run("docker", "image", "rm", *tags.values())


@pytest.mark.parametrize("builder", ["plain", "of_buildkit"])
def test_an_image_runs_airflow_as_a_user_without_rights(
    request: pytest.FixtureRequest, builder: str
) -> None:
    images: Images = request.getfixturevalue(builder)
    done = in_container(images.airflow, "sh", "-c", "id -u && id -g && exec airflow version")
    lock = (ROOT / "docker/requirements.lock").read_text()
    [version] = re.findall(r"^apache-airflow==(\S+)", lock, re.MULTILINE)
    assert done.stdout.split() == ["50000", "0", version], done.stderr


@pytest.mark.parametrize("builder", ["plain", "of_buildkit"])
def test_an_image_has_a_postgresql_for_the_same_user(
    request: pytest.FixtureRequest, builder: str
) -> None:
    images: Images = request.getfixturevalue(builder)
    look = ["run", "--rm", "--entrypoint=sh", images.postgres, "-c", "id -u && postgres --version"]
    user, version = docker(*look).splitlines()
    assert user == "50000"
    assert version.startswith("postgres (PostgreSQL) 18")


# --- layers ---------------------------------------------------------------------------------------


def layers(name: str) -> list[str]:
    found: list[str] = json.loads(
        docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", name)
    )
    return found


def test_a_changed_requirement_leaves_all_layers_but_its_own(plain: Images, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("iniconfig==2.1.0  # in a layer of its own\n")
    settings = Settings(project=ROOT, requirements=str(requirements))
    changed = image.ensure(settings, progress=silent)
    try:
        before, after = layers(plain.airflow), layers(changed.airflow)
        listed = in_container(changed.airflow, "python", "-c", "import iniconfig")
    finally:
        docker("image", "rm", changed.airflow)
    assert changed.postgres == plain.postgres
    assert listed.returncode == 0, listed.stderr
    pairs = zip(before, after, strict=False)
    shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    assert len(after) - shared == PACKAGE_LAYERS
    assert len(before) - shared <= PACKAGE_LAYERS  # Without packages nothing is installed.


# --- certificates and packages --------------------------------------------------------------------

TRUSTED_BY_AIRFLOWS_PYTHON = """
import sys, urllib.request, requests, httpx
print(urllib.request.urlopen(sys.argv[1], timeout=20).status)
print(requests.get(sys.argv[1], timeout=20).status_code)
print(httpx.get(sys.argv[1], timeout=20, follow_redirects=True).status_code)
"""
TRUSTED_BY_THE_BASE = """
import subprocess, sys, urllib.request
from pip._vendor import requests
print(urllib.request.urlopen(sys.argv[1], timeout=20).status)
print(requests.get(sys.argv[1], timeout=20).status_code)
print(subprocess.call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
    "--dest=/tmp", "--index-url", sys.argv[1], sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def index(cluster: ClusterAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """A package index of an authority that no image trusts by itself."""
    del cluster
    folder = tmp_path_factory.mktemp("index")
    with certified_index.serving(folder, bridge_address(Commands())) as index:
        yield index


@pytest.fixture
def project(index: Index, tmp_path: Path) -> Path:
    """A copy of docker/ with the authority's certificate in it."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    shutil.copy(index.authority, tmp_path / "docker" / "certs" / "ours.crt")
    return tmp_path


@contextmanager
def built(project: Path, dockerfile: str, *options: str) -> Iterator[str]:
    """An image that the classic builder makes of a Dockerfile."""
    (project / "Dockerfile").write_text(dockerfile)
    arguments: Mapping[str, str] = {
        "NO_PROXY": bridge_address(Commands()),
        **recipe.arguments(os.environ),
    }
    known = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    tag = f"{NAME}:{uuid.uuid4().hex[:8]}"
    docker("build", "--quiet", f"--tag={tag}", *known, *options, str(project))
    try:
        yield tag
    finally:
        docker("image", "rm", tag)


def stage(name: str) -> list[str]:
    """The lines of a stage of docker/Dockerfile, its first aside."""
    text = (ROOT / recipe.DOCKERFILE).read_text()
    [found] = re.findall(
        rf"^FROM \S+ AS {name}\n(.*?)(?=\n\n\n|\Z)", text, re.DOTALL | re.MULTILINE
    )
    return str(found).splitlines()


def with_own_files(base: str) -> str:
    """The steps of docker/Dockerfile that take a project's own files, on an image with the rest.

    So Airflow is not installed once more for each certificate.
    """
    first = [line for line in stage("base") if "useradd" not in line]
    last = stage("airflow")
    own = last[last.index("COPY docker/packages.txt /opt/build/") :]
    return "\n".join([f"FROM {base}", "USER 0", *first, *own])


def test_a_certificate_is_trusted_in_the_build_and_by_what_runs(
    plain: Images, index: Index, project: Path
) -> None:
    url = f"{index.url}/"
    look = ("python", "-c", TRUSTED_BY_AIRFLOWS_PYTHON, url)
    before = in_container(plain.airflow, *look)
    assert "CERTIFICATE_VERIFY_FAILED" in before.stderr

    (project / "docker/packages.txt").write_text("# What our DAGs call.\ntree\n")
    wanted = f"{certified_index.PACKAGE}=={certified_index.VERSION}"
    (project / recipe.REQUIREMENTS).write_text(f"--extra-index-url {index.url}\n{wanted}\n")
    with built(project, with_own_files(plain.airflow)) as name:
        after = in_container(name, *look)
        assert after.stdout.split() == ["200"] * 3, after.stderr
        installed = in_container(name, "python", "-c", "import windsock_certified")
        assert installed.returncode == 0, installed.stderr
        called = in_container(name, "sh", "-c", "id -u && tree --version")
        assert called.stdout.startswith("50000\ntree v"), called.stderr


OWN_BUNDLES = """
RUN mkdir /own && for each in ssl requests pip; do \\
    printf %s "$(cat /etc/ssl/certs/ca-certificates.crt)" >/own/$each.pem; done
ENV SSL_CERT_FILE=/own/ssl.pem REQUESTS_CA_BUNDLE=/own/requests.pem PIP_CERT=/own/pip.pem
"""


@pytest.mark.parametrize("own", ["", OWN_BUNDLES], ids=["Debian's bundle", "bundles of its own"])
def test_a_certificate_is_trusted_whatever_bundles_the_base_image_has(
    index: Index, project: Path, own: str
) -> None:
    text = (ROOT / recipe.DOCKERFILE).read_text()
    [usual] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", text, re.MULTILINE)
    with (
        built(project, f"FROM {usual}\n{own}") as base,
        built(project, text, "--target=base", f"--build-arg=PYTHON_IMAGE={base}") as name,
    ):
        look = ("python3", "-c", TRUSTED_BY_THE_BASE, f"{index.url}/", certified_index.PACKAGE)
        done = in_container(name, *look)
        assert done.stdout.split() == ["200", "200", "0"], done.stderr
