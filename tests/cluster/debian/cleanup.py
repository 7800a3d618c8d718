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


CONTROL_GROUPS = Path("/sys/fs/cgroup")


def check_no_other(commands: Commands) -> None:
    """Refuse to come up on a machine where another Kubernetes has left something, or still runs.

    Two kubelets on one docker remove each other's pods, and two kube-proxies each other's rules.
    Nothing tells whose they are either: `down` may take all of them away because there were none
    when it came up. Those of nodes in containers, as kind makes them, are not seen from here.

    Raises:
        EnvironmentFailure: There are such pods or rules.
    """
    traces = []
    with suppress(EnvironmentFailure):  # no docker yet
        if found := _containers(commands):
            traces.append(
                f"{len(found)} containers of pods (`docker ps --filter label={POD_LABEL}`)"
            )
    for family in ("iptables", "ip6tables"):
        with suppress(EnvironmentFailure):  # not installed yet, or a kernel without IPv6
            if OF_KUBERNETES.search(commands.run(f"{family}-save")):
                traces.append(f"packet filter rules (`{family}-save | grep KUBE-`)")
    if traces:
        raise EnvironmentFailure(
            f"another Kubernetes is on this machine: {', '.join(traces)}",
            "The test bed would undo its work. Stop it and remove what it left, or use kind.",
        )


def remove_containers(commands: Commands) -> None:
    """Remove all containers of pods; a kubelet leaves them when it ends.

    They are ours: see `check_no_other`.
    """
    if found := _containers(commands):
        commands.run("docker", "rm", "--force", "--volumes", *found)


def _containers(commands: Commands) -> list[str]:
    """The ids of all containers that a kubelet of this machine made."""
    filters = ("--filter", f"label={POD_LABEL}")
    return commands.run("docker", "ps", "--all", "--quiet", *filters).split()


def unmount(commands: Commands) -> None:
    """Unmount what the kubelet mounted for pods: Secrets, tokens, memory-backed folders."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # mountinfo writes a space as \040; no path of ours has one.
    points = [line.split()[4] for line in lines]
    for point in reversed(points):
        if Path(point).is_relative_to(places.CLUSTER):
            commands.run("umount", point)


def remove_rules(commands: Commands) -> None:
    """Remove the packet filter rules of kube-proxy and the kubelet, and leave all others.

    Those of Kubernetes are ours: see `check_no_other`.
    """
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
    """Remove the empty control groups of pods, not those of a kubelet that runs in a container."""
    # One tree, or one for each kind of resource.
    for tree in [*CONTROL_GROUPS.glob("kubepods*"), *CONTROL_GROUPS.glob("*/kubepods*")]:
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
