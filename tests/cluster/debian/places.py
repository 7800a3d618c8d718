"""Where the test bed keeps things, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

VERSION = "1.20.2"
"""Of Kubernetes: the last that Debian 12 holds the source of, and one that still runs on docker."""

CONTEXT = "debian"
NODE = "debian"
API_PORT = 6443

STATE = Path("/var/lib/windsock-kubernetes")
DOCKER = STATE / "docker"
"""Of the docker engine, if we started one: its record and its log."""

CLUSTER = STATE / "cluster"
"""All that lives as long as the cluster: keys, database, volumes, logs, records of processes."""

KUBECONFIG = CLUSTER / "kubeconfig"
PKI = CLUSTER / "pki"
HOSTS = CLUSTER / "hosts"
VOLUMES = CLUSTER / "volumes"

PROVISIONER_FOLDER = Path("/tmp/hostpath_pv")
"""Where the controller manager's host path provisioner puts volumes; fixed in its source."""

LOCK = Path("/run/windsock-kubernetes.lock")

REPOSITORY = Path(__file__).resolve().parents[3]


def cache() -> Path:
    """What takes minutes to make and is kept: the binaries and the base image's files."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "windsock" / "kubernetes-debian"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
