"""A pod as bench.sync uses it: a reader in it that reports when a file is there, and kubectl.

The reader looks twice in a millisecond and answers on a stream that is open already, so a sample
includes one way back to this machine (below a millisecond where the cluster is near).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from windsock.cluster.access.streams import exec_in
from windsock.cluster.api.workloads import ready_pod
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from windsock.cluster.api.client import Cluster

PEER_SECONDS = 120.0
"""How long a copy by kubectl may take."""

READER = """
import json, os, sys, time
for line in iter(sys.stdin.readline, ""):
    path, end = json.loads(line)
    end = end.encode()
    while True:
        try:
            with open(path, "rb") as file:
                file.seek(-len(end), os.SEEK_END)
                if file.read() == end:
                    break
        except OSError:
            pass
        time.sleep(0.0005)
    print(end.decode(), flush=True)
"""


class Reader:
    """A process in the pod that waits for the end of a file.

    Args:
        cluster: With the namespace.
        component: Whose pod it is.
    """

    def __init__(self, cluster: Cluster, component: str) -> None:
        command = ["python3", "-I", "-S", "-u", "-c", READER]
        pod = ready_pod(cluster, component)
        self._stream = exec_in(cluster, pod, command)
        self._said = b""
        self._came = threading.Condition()
        self._at = 0.0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while piece := self._stream.read(64 * 1024):
            with self._came:
                self._said += piece
                self._at = time.monotonic()
                self._came.notify_all()

    def expect(self, path: str, end: str) -> None:
        """Begin to look for a file that ends in `end`, which has no other line in it."""
        with self._came:
            self._said = b""
        self._stream.write(json.dumps([path, end]).encode() + b"\n")

    def seconds_until_read(self, end: str, *, since: float, timeout: float = 30.0) -> float:
        """Seconds from `since` until the reader reports that the file ends so.

        Raises:
            DeadlineExceeded: It did not in time.
        """
        wanted = end.encode() + b"\n"
        with self._came:
            if not self._came.wait_for(lambda: self._said == wanted, timeout):
                raise DeadlineExceeded(f"not readable in the pod within {timeout:.0f} s")
            return self._at - since

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._thread.join()


@dataclass(frozen=True, kw_only=True)
class Kubectl:
    """The commands that one types where there is no sync.

    Attributes:
        options: That name the cluster and the namespace.
        pod: The name of the pod.
    """

    options: Sequence[str]
    pod: str

    @classmethod
    def find(cls, cluster: Cluster, component: str, *, kubeconfig: str) -> Kubectl | None:
        """None where there is no kubectl on PATH."""
        if shutil.which("kubectl") is None:
            return None
        options = [f"--context={cluster.context}", f"--namespace={cluster.namespace}"]
        if kubeconfig:
            options.append(f"--kubeconfig={kubeconfig}")
        return cls(options=options, pod=ready_pod(cluster, component)["metadata"]["name"])

    def run(self, *arguments: str) -> None:
        """Run kubectl.

        Raises:
            EnvironmentFailure: It failed.
        """
        _wait([subprocess.Popen(self._command(*arguments), stdin=subprocess.DEVNULL)])

    def tar(self, folder: Path, name: str, end: str) -> None:
        """`tar -c | kubectl exec tar -x`: one file, or `.` for all of a folder."""
        pack = subprocess.Popen(
            ["tar", "-C", str(folder), "-cf", "-", name],  # noqa: S607 - tar from PATH
            stdout=subprocess.PIPE,
        )
        command = self._command("exec", "-i", self.pod, "--", "tar", "-C", end, "-xf", "-")
        unpack = subprocess.Popen(command, stdin=pack.stdout)
        if pack.stdout is not None:
            pack.stdout.close()
        _wait([unpack, pack])

    def copy(self, path: Path, end: str) -> None:
        """`kubectl cp` of one file, or of a folder."""
        self.run("cp", str(path), f"{self.pod}:{end}")

    def make_folder(self, path: str) -> None:
        """In the pod."""
        self.run("exec", self.pod, "--", "mkdir", "-p", path)

    def remove(self, path: str) -> None:
        """In the pod."""
        self.run("exec", self.pod, "--", "rm", "-rf", path)

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", *self.options, *arguments]


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for all; none is left running."""
    deadline = time.monotonic() + PEER_SECONDS
    try:
        codes = [child.wait(max(0.0, deadline - time.monotonic())) for child in children]
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"not copied within {PEER_SECONDS:.0f} s") from error
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()
    if any(codes):
        raise EnvironmentFailure(f"{children[0].args!r} ended with {codes}")
