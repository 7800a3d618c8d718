"""The docker engine: the machine's own if one answers, else one of ours."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.cluster.debian import places
from tests.cluster.debian.daemons import Daemons, wait_until
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from tests.cluster.debian.commands import Commands

DAEMONS = Daemons(places.DOCKER)
CAP_SYS_RESOURCE = 24

# Without CAP_SYS_RESOURCE no process may make itself less likely to be killed for memory, and runc
# gives up on a container that asks for it. The kubelet asks for it for each sandbox.
RUNTIME = """#!/bin/sh
previous=
for argument in "$@"; do
    if [ "$previous" = --bundle ]; then
        sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$argument/config.json"
    fi
    previous=$argument
done
exec runc "$@"
"""


def answers(commands: Commands) -> bool:
    """Whether an engine runs."""
    return commands.succeeds("docker", "version")


def start(commands: Commands) -> None:
    """Start an engine if none answers, and wait until it does."""
    if answers(commands):
        return
    DAEMONS.start(
        "dockerd",
        *("dockerd", "--oom-score-adjust", "0"),
        "--userland-proxy=false",  # or no pod reaches itself by its Service's address
        *_runtime(),
    )

    def ready() -> bool:
        DAEMONS.check()
        return answers(commands)

    wait_until(ready, "an answer of dockerd", seconds=60)


def _runtime() -> list[str]:
    if _has_capability(CAP_SYS_RESOURCE):
        return []
    places.DOCKER.mkdir(parents=True, exist_ok=True)
    wrapper = places.DOCKER / "runc-without-oom-score"
    wrapper.write_text(RUNTIME)
    wrapper.chmod(0o755)
    return ["--add-runtime", f"no-oom-score={wrapper}", "--default-runtime", "no-oom-score"]


def _has_capability(number: int) -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    [effective] = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    return bool(int(effective, 16) >> number & 1)


def bridge_address(commands: Commands) -> str:
    """The machine's address on docker's bridge: pods reach it, nothing outside does."""
    option = '{{index .Options "com.docker.network.bridge.name"}}'
    bridge = commands.run("docker", "network", "inspect", "bridge", "--format", option).strip()
    for address in psutil.net_if_addrs().get(bridge, []):
        if address.family == socket.AF_INET:
            return address.address
    raise EnvironmentFailure(f"docker's bridge `{bridge}` has no address")


def cgroup_driver(commands: Commands) -> str:
    """Who makes the control groups; the kubelet must use the same."""
    return commands.run("docker", "info", "--format", "{{.CgroupDriver}}").strip()
