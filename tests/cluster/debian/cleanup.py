"""Taking away what a cluster leaves on the machine once its processes have ended."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.debian import places
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from tests.cluster.debian.commands import Commands

POD_LABEL = "io.kubernetes.pod.namespace"
OF_KUBERNETES = re.compile(r"\bKUBE-")
LOG_LINKS = (Path("/var/log/containers"), Path("/var/log/pods"))


def remove_containers(commands: Commands) -> None:
    """Remove all containers of pods; a kubelet leaves them when it ends."""
    containers = commands.run("docker", "ps", "--all", "--quiet", "--filter", f"label={POD_LABEL}")
    if containers.split():
        commands.run("docker", "rm", "--force", "--volumes", *containers.split())


def unmount(commands: Commands) -> None:
    """Unmount what the kubelet mounted for pods: Secrets, tokens, memory-backed folders."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # mountinfo writes a space as \040; no path of ours has one.
    points = [line.split()[4] for line in lines]
    for point in reversed(points):
        if Path(point).is_relative_to(places.CLUSTER):
            commands.run("umount", point)


def remove_rules(commands: Commands) -> None:
    """Remove the packet filter rules of kube-proxy and the kubelet, and leave all others."""
    for family in ("iptables", "ip6tables"):
        try:
            rules = commands.run(f"{family}-save")
        except EnvironmentFailure:  # a kernel without IPv6
            continue
        kept = without_kubernetes(rules)
        if kept != rules:
            commands.run(f"{family}-restore", given=kept)


def without_kubernetes(rules: str) -> str:
    """Packet filter rules, as iptables-save writes them, without chains of Kubernetes' making."""
    lines = rules.splitlines(keepends=True)
    return "".join(line for line in lines if not OF_KUBERNETES.search(line))


def remove_control_groups() -> None:
    """Remove the empty control groups of pods."""
    for tree in list(Path("/sys/fs/cgroup").glob("**/kubepods*")):
        for folder, _, _ in os.walk(tree, topdown=False):
            with suppress(OSError):  # One folder may be seen by several names.
                Path(folder).rmdir()


def remove_log_links() -> None:
    """Remove the links to logs of containers that are gone, and the folders that held them."""
    for top in LOG_LINKS:
        for folder, _, names in os.walk(top, topdown=False):
            for path in (Path(folder) / name for name in names):
                if path.is_symlink() and not path.exists():
                    path.unlink()
            with suppress(OSError):  # not empty: somebody else's
                Path(folder).rmdir()


def remove_state() -> None:
    """Remove the keys, the database and the volumes."""
    if places.PROVISIONER_FOLDER.is_symlink():
        places.PROVISIONER_FOLDER.unlink()
    with suppress(FileNotFoundError):
        shutil.rmtree(places.CLUSTER)
