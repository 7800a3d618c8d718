"""Kubernetes' own programs, built from Debian's source package: the full upstream source."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.debian import packages, places
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.debian.commands import Commands

PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
SCRATCH = ".making-"


@dataclass(frozen=True)
class Change:
    """A change of the source.

    Attributes:
        file: In the source.
        before: What it holds.
        after: What stands there instead.
    """

    file: str
    before: str
    after: str


CHANGES = (
    # Any user may write in the volumes of the host path provisioner, as in those of kind's. They
    # belong to root, and a host path knows no fsGroup: a pod that is not root could not write.
    Change(
        "pkg/volume/hostpath/host_path.go",
        "os.MkdirAll(pv.Spec.HostPath.Path, 0750)",
        "os.MkdirAll(pv.Spec.HostPath.Path, 0777)",
    ),
    # A pod that is deleted is gone at once, as since Kubernetes 1.22. This kubelet looks every ten
    # seconds whether one may go, and clears the remains of some once a minute.
    Change(
        "pkg/kubelet/status/status_manager.go",
        "const syncPeriod = 10 * time.Second",
        "const syncPeriod = 1 * time.Second",
    ),
    Change(
        "pkg/kubelet/kubelet.go",
        "ContainerGCPeriod = time.Minute",
        "ContainerGCPeriod = 2 * time.Second",
    ),
)


def folder() -> Path:
    """Where the cache holds the programs of this version with these changes."""
    digest = hashlib.sha256(repr(CHANGES).encode()).hexdigest()[:8]
    return places.cache() / f"kubernetes-{places.VERSION}-{digest}"


def are_built() -> bool:
    """Whether the cache holds them."""
    return folder().is_dir()


def build(commands: Commands) -> None:
    """Fetch the source, compile, and put the programs into the cache, all of them or none."""
    with scratch() as work:
        source = _fetch(commands, work)
        _change(source)
        _compile(commands, work, source)
        done = work / "done"
        done.mkdir()
        for program in PROGRAMS:
            [built] = source.glob(f"_output/local/bin/*/*/{program}")
            shutil.move(built, done / program)
        done.rename(folder())


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder to make something in, on the file system of its place, so that a rename moves it."""
    work = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=places.cache()))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def remove_scratch() -> None:
    """Remove what a killed run left in the cache."""
    for left in places.cache().glob(f"{SCRATCH}*"):
        shutil.rmtree(left)


def _fetch(commands: Commands, work: Path) -> Path:
    """Download and unpack the source, without a trace in the machine's own apt."""
    found = packages.sources(commands)
    lines = [f"deb-src {each.address} {each.suite} {each.component}" for each in found]
    options = packages.only_from(commands, lines, folder=work)
    commands.run("apt-get", "source", "-qq", *options, "kubernetes", folder=work)
    unpacked = [path for path in work.glob("kubernetes-*") if path.is_dir()]
    if len(unpacked) != 1 or places.VERSION not in unpacked[0].name:
        raise EnvironmentFailure(
            f"apt's source of kubernetes is {', '.join(path.name for path in unpacked) or 'none'}",
            f"Expected {places.VERSION}, the one in Debian 12.",
        )
    return unpacked[0]


def _change(source: Path) -> None:
    for change in CHANGES:
        code = source / change.file
        before = code.read_text()
        after = before.replace(change.before, change.after)
        if after == before:
            raise EnvironmentFailure(f"{change.file} does not hold {change.before!r}")
        code.write_text(after)


def _compile(commands: Commands, work: Path, source: Path) -> None:
    modules = work / "go" / "src" / "k8s.io"
    modules.mkdir(parents=True)
    (modules / "kubernetes").symlink_to(source)
    commands.run(
        "make",
        "WHAT=" + " ".join(f"cmd/{program}" for program in PROGRAMS),
        # Without a git repository the build cannot know its version, and a kubelet without one
        # is refused.
        f"KUBE_GIT_VERSION=v{places.VERSION}",
        "KUBE_GIT_TREE_STATE=clean",
        "KUBE_GIT_COMMIT=debian",
        "GOLDFLAGS=-s -w",
        folder=source,
        environment={
            "HOME": str(work),
            "TMPDIR": str(work),  # what the compiler leaves when it is killed goes with the rest
            "GOPATH": str(work / "go"),
            "GOPROXY": "off",  # all of it is vendored
            "CGO_ENABLED": "0",
        },
    )
