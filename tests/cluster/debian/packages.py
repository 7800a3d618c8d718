"""Debian's packages: what the machine has, what is installed, and from which sources."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.cluster.debian.commands import PATH, Commands
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SUITE = "bookworm"

TO_RUN = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "etcd": "etcd-server",
    "dnsmasq": "dnsmasq-base",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",  # the kubelet's port-forward runs it
    "openssl": "openssl",
}
TO_BUILD = {
    "go": "golang-go",
    "gcc": "gcc libc6-dev",
    "make": "make",
    "rsync": "rsync",
    "jq": "jq",
    "dpkg-source": "dpkg-dev",
    "patch": "patch",
    "xz": "xz-utils",
}
TO_MAKE_AN_IMAGE = {"debootstrap": "debootstrap"}
TO_SERVE_IMAGES = {"docker-registry": "docker-registry"}

POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked before a package's service is started; exit code 101 forbids it."""


class Source(NamedTuple):
    """A part of the Debian archive that this machine uses."""

    address: str
    suite: str
    component: str


def check_machine() -> None:
    """Make sure that this can work here at all.

    Raises:
        EnvironmentFailure: Not root, or not Debian 12.
    """
    if os.geteuid() != 0:
        raise EnvironmentFailure(
            "Kubernetes from Debian's packages needs root",
            "It starts docker, a kubelet and iptables rules. On a machine of your own prefer kind.",
        )
    release = Path("/etc/os-release")
    lines = release.read_text().splitlines() if release.exists() else []
    about = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    if about.get("VERSION_CODENAME") != SUITE or about.get("ID") != "debian":
        raise EnvironmentFailure(
            f"this test bed is for Debian 12 ({SUITE}), this is {about.get('PRETTY_NAME')}",
            "Later releases have no source of a Kubernetes that runs on docker. Use kind.",
        )


def may_install() -> bool:
    """Whether this is a machine whose packages the test bed may touch."""
    try:
        check_machine()
    except EnvironmentFailure:
        return False
    return True


def missing(needed: Mapping[str, str]) -> list[str]:
    """The packages of the programs that are not there."""
    packages = [package for program, package in needed.items() if not _is_there(program)]
    return sorted(set(" ".join(packages).split()))


def _is_there(program: str) -> bool:
    return shutil.which(program, path=PATH) is not None


def install(commands: Commands, packages: list[str], *, options: Sequence[str] = ()) -> None:
    """Install packages, and start none of their services.

    Args:
        commands: Runs apt.
        packages: Their names.
        options: Of apt-get, as those of `only_from`; the machine's own lists are then not updated.
    """
    if not packages:
        return
    if not options:
        commands.run("apt-get", "update", "-qq")
    command = ("apt-get", "install", "--yes", "-qq", "--no-install-recommends")
    with _no_services():
        commands.run(*command, *options, *packages)


def only_from(commands: Commands, lines: Iterable[str], *, folder: Path) -> list[str]:
    """Options that let apt know these sources and no others, without a trace in the machine's own.

    Args:
        commands: Runs apt.
        lines: Of a sources.list.
        folder: Empty; of use as long as it is there.
    """
    listed, lists = folder / "source.list", folder / "lists"
    listed.write_text("".join(f"{line}\n" for line in lines))
    (lists / "partial").mkdir(parents=True)
    options = [
        f"-oDir::Etc::SourceList={listed}",
        "-oDir::Etc::SourceParts=-",
        f"-oDir::State::Lists={lists}",
        "-oAPT::Sandbox::User=root",  # the folder is ours alone
    ]
    commands.run("apt-get", "update", "-qq", *options)
    return options


@contextmanager
def _no_services() -> Iterator[None]:
    if POLICY.exists():  # the machine's own answer stays
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def sources(commands: Commands) -> list[Source]:
    """The Debian archives that this machine installs from.

    Raises:
        EnvironmentFailure: There is none.
    """
    form = "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    for _ in range(2):
        lines = commands.run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
        found = [line.split()[1:] for line in lines.splitlines() if line.startswith("Debian ")]
        if found:
            return sorted({Source(*words) for words in found}, key=lambda each: each.suite)
        commands.run("apt-get", "update", "-qq")
    raise EnvironmentFailure("apt knows no Debian archive", "Check /etc/apt/sources.list.d.")


def apt_settings(commands: Commands) -> str:
    """What this machine tells apt about its network and clock, as a configuration file."""
    wanted = ("Acquire::Check-", "Acquire::http::Proxy", "Acquire::https::Proxy")
    lines = commands.run("apt-config", "dump").splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(wanted))
