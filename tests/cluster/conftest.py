"""The cluster that the suites in this folder use: `pytest --cluster=debian|kind|CONTEXT`.

`debian` brings up Kubernetes from Debian's packages (see `tests/cluster/debian`), `kind` a kind
cluster of its own; anything else is the name of a context of the current kubeconfig. What was not
up before is down again afterwards. Without the option the suites are listed as not run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from windsock.cluster.images.registry import KindRegistry
from windsock.cluster.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

# Their cases are imported into test_environment.py: pytest shows no values of these otherwise.
for name in ("another_environment", "breaking", "syncing"):
    pytest.register_assert_rewrite(f"tests.cluster.{name}")

HERE = Path(__file__).parent
KIND_CLUSTER = "windsock-test"
KIND_CONFIG = HERE.parents[1] / "kube" / "kind.yaml"
NOT_RUN = "needs --cluster=debian|kind|CONTEXT; see CONTRIBUTING.md"


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach the cluster under test.

    Args:
        kind: Which of the three it is.
        kubeconfig: Holds the context.
        context: The name to use.
        images: How an image gets there: one that docker has is there already, as to a kind
            cluster, or by a registry.
    """

    kind: Literal["debian", "kind", "context"]
    kubeconfig: Path
    context: str
    images: Literal["docker", "kind", "registry"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        metavar="debian|kind|CONTEXT",
        help="run tests/cluster on a Kubernetes: one from Debian's packages, kind, or a context",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs a Kubernetes, see tests/cluster")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--cluster", default=None):  # absent where this file is found late
        return
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason=NOT_RUN))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterAccess]:
    """The cluster that `--cluster` names, up."""
    if hasattr(request.config, "workerinput"):
        pytest.fail("the cluster suites share one cluster: run them without -n")
    wanted: str = request.config.getoption("--cluster")
    if wanted == "debian":
        access = _debian()
    elif wanted == "kind":
        access = _kind()
    else:
        access = _context(wanted)
    with access as cluster:
        yield cluster


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder for the projects of a module."""
    with tempfile.TemporaryDirectory(
        prefix="windsock-cluster-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder).resolve()


@contextmanager
def _debian() -> Iterator[ClusterAccess]:
    from tests.cluster.debian import cluster  # noqa: PLC0415 - only where it is asked for

    before = cluster.state()
    kubeconfig = cluster.up(_tell)
    try:
        yield ClusterAccess("debian", kubeconfig, "debian", images="docker")
    finally:
        if not before.ready:
            cluster.down(_tell, keep_docker=before.docker)


@contextmanager
def _kind() -> Iterator[ClusterAccess]:
    folder = Path.home() / ".cache" / "windsock" / "kind"
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = folder / "kubeconfig"
    kind = Kind(name=KIND_CLUSTER, config=KIND_CONFIG, kubeconfig=str(kubeconfig))
    made = kind.ensure(_tell)
    try:
        yield ClusterAccess("kind", kubeconfig, kind.context, images="kind")
    finally:
        if made:
            kind.delete()  # Refused where a test has left an environment: it can be looked at.
            KindRegistry(KIND_CLUSTER).remove()


@contextmanager
def _context(name: str) -> Iterator[ClusterAccess]:
    known = _run("kubectl", "config", "get-contexts", "--output=name").split()
    if name not in known:
        pytest.fail(f"--cluster={name}: kubectl knows {', '.join(known) or 'no context'}")
    # Its cluster and its user may stand in different files of KUBECONFIG.
    options = ("--raw", "--flatten", "--minify", f"--context={name}")
    with tempfile.TemporaryDirectory(prefix="windsock-cluster-") as folder:
        kubeconfig = Path(folder, "kubeconfig")
        kubeconfig.write_text(_run("kubectl", "config", "view", *options))
        yield ClusterAccess("context", kubeconfig, name, images="registry")


def _run(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(arguments)}: {done.stderr}", pytrace=False)
    return done.stdout


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
