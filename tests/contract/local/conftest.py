from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windsock.local.orphans import reap
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ODD = "prøj 100%s 'q' \"d\" ;x #y"
"""A project's name with all that configuration files, shells and URLs stumble over."""


def _until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition} did not become true within {seconds} s")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds, and fails if it never does."""
    return _until


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder with an awkward path; nothing that carries its mark outlives the test.

    Not below pytest's own folder: every run of pytest closes that to others, also to PostgreSQL's
    user, while another run may be going on.
    """
    with tempfile.TemporaryDirectory(prefix="windsock-test-") as place:
        folder = Path(place).resolve() / ODD / ".windsock"
        folder.mkdir(parents=True)
        yield folder
        reap(folder)


@pytest.fixture
def secrets(state: Path) -> Secrets:
    return Secrets.ensure(state / "secrets")


@pytest.fixture
def supervisor(state: Path, secrets: Secrets) -> Iterator[Supervisor]:
    inherited = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
    supervised = Supervisor(state, password=secrets.supervisor_password, inherited=inherited)
    yield supervised
    supervised.shutdown()


@pytest.fixture
def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])
