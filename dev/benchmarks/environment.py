"""A windsock environment for a benchmark, driven by the commands that a person types."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.local.components import Layout
from windsock.local.orphans import reap
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets
from windsock.local.venv import MARKER
from windsock.model import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from windsock.config import Settings

COMMAND_SECONDS = 900
"""The longest a command may take: a first `up` on a slow line."""


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder for everything that a benchmark makes."""
    with tempfile.TemporaryDirectory(prefix="windsock-bench-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o711)  # PostgreSQL may run as another user; it must get to its data.
        yield folder


def on_cluster(settings: Settings, *, namespace: str) -> dict[str, str]:
    """What the commands of an environment need to find the cluster of some settings.

    Args:
        settings: Of the project.
        namespace: Of the environment.
    """
    return {
        "INVOKE_WINDSOCK_TARGET": settings.target,
        "INVOKE_WINDSOCK_CLUSTER_CONTEXT": settings.cluster.context,
        "INVOKE_WINDSOCK_CLUSTER_NAMESPACE": namespace,
    }


class BenchEnvironment:
    """An environment below `folder`.

    Args:
        folder: Empty; `state` and `dags` in it are this environment's.
        project: The folder of tasks.py.
        variables: Further environment variables for its commands.
        python: The interpreter that has windsock; ours by default.

    Attributes:
        variables: All environment variables of its commands.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: Path,
        variables: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self._python = str(python or sys.executable)
        self.state = folder / "state"
        self.dags = folder / "dags"
        self.dags.mkdir(parents=True)
        self._project = project
        self.variables = {
            **os.environ,
            # Runs are triggered by the API, which unpauses nothing.
            "INVOKE_WINDSOCK_RUN_SCHEDULES": "true",
            "INVOKE_WINDSOCK_STATE": str(self.state),
            "INVOKE_WINDSOCK_DAGS": str(self.dags),
            "INVOKE_WINDSOCK_AIRFLOW_SETTINGS": str(folder / "none.yaml"),
            **(variables or {}),
        }

    def use_venv_of(self, state: Path) -> None:
        """Take over the venvs that another environment has built, by hard links where possible."""
        for marker in (state / "venv").glob(f"*/{MARKER}"):
            target = self.state / "venv" / marker.parent.name
            shutil.copytree(marker.parent, target, symlinks=True, copy_function=_link_or_copy)

    def airflow_python(self) -> Path:
        """The interpreter of Airflow's venv; it is there until `remove`.

        Raises:
            EnvironmentFailure: `invoke up` has not built it.
        """
        for marker in (self.state / "venv").glob(f"*/{MARKER}"):
            return marker.parent / "bin" / "python"
        raise EnvironmentFailure(f"there is no venv in {self.state}", "Run `invoke up` first.")

    def command(self, *arguments: str) -> float:
        """Run `invoke` with these arguments; its seconds.

        Raises:
            EnvironmentFailure: It failed; with the end of its output.
        """
        return self.run(*arguments)[0]

    def run(self, *arguments: str) -> tuple[float, str]:
        """As `command`; its seconds, and its stderr."""
        started = time.monotonic()
        try:
            result = subprocess.run(
                self._invoke(*arguments),
                cwd=self._project,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(
                f"`invoke {' '.join(arguments)}` did not end within {COMMAND_SECONDS} s"
            ) from None
        seconds = time.monotonic() - started
        if result.returncode != 0:
            end = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
            raise EnvironmentFailure(f"`invoke {' '.join(arguments)}` failed", end)
        return seconds, result.stderr

    def _invoke(self, *arguments: str) -> list[str]:
        return [self._python, "-m", "invoke", *arguments]

    @contextmanager
    def up(self) -> Iterator[Environment]:
        """`invoke up --detach`, and `invoke down` in the end, whatever happens."""
        try:
            self.command("up", "--detach")
            yield self.environment()
        finally:
            self.stop()

    def environment(self) -> Environment:
        """What is up."""
        return Environment.load(self.state)

    def stop(self) -> None:
        """Stop everything; a second Ctrl-C does not prevent that."""
        self._down()

    def remove(self) -> None:
        """Stop everything, and remove the state with its venv."""
        self._down("--volumes")

    def _down(self, *options: str) -> None:
        with uninterrupted():
            try:
                self.command("down", *options)
            finally:
                reap(self.state)  # Whatever went wrong: the folder is removed, nothing may use it.

    def supervisor(self) -> Supervisor:
        """Of its processes."""
        secrets = Secrets.ensure(Layout(state=self.state).secrets)
        return Supervisor(self.state, password=secrets.supervisor_password, inherited={})

    def terminal(self) -> Terminal:
        """An attached `invoke sync`."""
        return Terminal(
            subprocess.Popen(
                self._invoke("sync"),
                cwd=self._project,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


class Terminal:
    """The lines of an attached `invoke sync`, each with the time it came.

    Args:
        child: The command; its stderr is a pipe.
    """

    KEPT = 200

    def __init__(self, child: subprocess.Popen[str]) -> None:
        if child.stderr is None:
            raise AssertionError("the pipe was asked for")
        self._child = child
        self._lines: deque[tuple[float, str]] = deque(maxlen=self.KEPT)
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(child.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._came:
                self._lines.append((time.monotonic(), line.rstrip("\n")))
                self._came.notify_all()

    def seconds_until(self, pattern: str, *, since: float, timeout: float) -> float:
        """Seconds from `since` until a line came in which a pattern is found.

        Args:
            pattern: A regular expression.
            since: Monotonic seconds; earlier lines do not count.
            timeout: In seconds.

        Raises:
            DeadlineExceeded: None came in time.
        """
        wanted = re.compile(pattern)

        def came() -> float | None:
            times = [at for at, line in self._lines if at >= since and wanted.search(line)]
            return times[0] if times else None

        with self._came:
            at = self._came.wait_for(came, timeout=timeout)
        if at is None:
            last = "; ".join(line for _, line in list(self._lines)[-5:]) or "nothing"
            raise DeadlineExceeded(f"no line with {pattern!r} within {timeout:.0f} s, but: {last}")
        return at - since

    def close(self) -> None:
        """End the command and wait for its end."""
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join(10)
        if self._child.stderr is not None:
            self._child.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # Another file system, or one without links.
        shutil.copy2(source, target)
    return target


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish what cleans up: a further Ctrl-C is ignored, as the first one is being obeyed."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError):  # Not the main thread, which alone gets them.
            before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
