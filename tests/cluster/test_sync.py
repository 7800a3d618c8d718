"""The sync's own contract cases, over a real exec into a pod instead of a pipe.

The store is a folder of this machine that the pod mounts at the same path, so that a case can look
at it: this needs a node that is this machine.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.room import SLEEP, deployment, mount_from_node, namespace, silent
from tests.contract.sync.rig import Rig
from tests.contract.sync.test_faults import *  # noqa: F403 - its cases are the point
from tests.contract.sync.test_processor import *  # noqa: F403 - as above
from tests.contract.sync.test_sync import *  # noqa: F403 - as above
from windsock.cluster.access.streams import exec_transport
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster
    from windsock.sync.transport import Transport

pytestmark = pytest.mark.cluster


class PodRig(Rig):
    """A rig whose agent runs in a pod."""

    def __init__(self, folder: Path, room: Cluster) -> None:
        super().__init__(folder, "exec")
        self._room = room

    def connect(self) -> Transport:
        transport = exec_transport(self._room, self.options)
        self.transports.append(transport)
        return self.wrap(transport)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that the pod sees, too."""
    folder = Path(tempfile.mkdtemp(prefix="windsock-pod-")).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess, shared: Path) -> Iterator[Cluster]:
    if cluster.kind != "debian":
        pytest.skip("the node must be this machine")
    with namespace(cluster) as room:
        item = deployment("dag-processor", SLEEP)
        mount_from_node(item, shared)
        apply(room, [item], progress=silent)
        rollout.wait(room, [item], progress=silent, timeout=120)
        yield room


@pytest.fixture
def rig(room: Cluster, shared: Path) -> Iterator[Rig]:
    before = set(threading.enumerate())
    rig = PodRig(Path(tempfile.mkdtemp(dir=shared)), room)
    yield rig
    assert not any(transport.alive for transport in rig.transports), "an agent was left running"
    left = [t for t in threading.enumerate() if t not in before and t.is_alive()]
    assert not left, f"threads were left running: {left}"
