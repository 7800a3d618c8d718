"""A real image registry: the program of Debian's package `docker-registry`, or `registry`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("docker-registry", "registry")
LOGIN = "anna:windsock"
USERS = "anna:$2b$04$4QqQgaZc0oevpsxCI07wQ.TjZPYg4ICKzzXEtyWlBmjTT6nXxdvsO\n"
"""That login, as the registry wants it."""

LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


def program() -> str | None:
    """Where it is installed, if it is."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class RealRegistry:
    """What a registry that runs has, read from its files.

    Args:
        address: Host and port.
        folder: Where it keeps everything.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self._folder = folder / "docker" / "registry" / "v2"

    def stored(self) -> set[str]:
        """The digests of the layers and configurations that it has."""
        links = self._folder.glob("repositories/**/_layers/sha256/*/link")
        return {link.read_text() for link in links}

    def stamp(self, name: str, tag: str) -> object:
        """Something that is another each time that the image is pushed."""
        return self._tag(name, tag).stat().st_mtime_ns

    def layers(self, name: str, tag: str) -> list[str]:
        """The digests of an image's layers."""
        return [layer["digest"] for layer in self._manifest(name, tag)["layers"]]

    def config(self, name: str, tag: str) -> str:
        """The digest of an image's configuration."""
        return str(self._manifest(name, tag)["config"]["digest"])

    def _tag(self, name: str, tag: str) -> Path:
        return self._folder / "repositories" / name / "_manifests/tags" / tag / "current/link"

    def _manifest(self, name: str, tag: str) -> dict[str, Any]:
        _, _, digest = self._tag(name, tag).read_text().partition(":")
        data = self._folder / "blobs" / "sha256" / digest[:2] / digest / "data"
        manifest: dict[str, Any] = json.loads(data.read_text())
        return manifest


@contextmanager
def serving(folder: Path, *, login: str = "") -> Iterator[RealRegistry]:
    """A registry on a free port of this machine, empty.

    Args:
        folder: For its configuration and all that it keeps.
        login: Empty, or `LOGIN`.
    """
    installed = program()
    assert installed is not None
    assert login in ("", LOGIN)
    storage = folder / "storage"
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if login:
        (folder / "users").write_text(USERS)
        settings["auth"] = {"htpasswd": {"realm": "real", "path": str(folder / "users")}}
    file = folder / "registry.yaml"
    file.write_text(json.dumps(settings))
    with subprocess.Popen(
        [installed, "serve", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"OTEL_TRACES_EXPORTER": "none"},
    ) as process:
        try:
            assert process.stderr is not None
            address, said = "", []
            for line in process.stderr:
                said.append(line)
                if found := LISTENING.search(line):
                    address = found[1]
                    break
            assert address, "".join(said)
            # It goes on talking: a pipe that nobody reads would stop it.
            reader = threading.Thread(target=deque, args=(process.stderr, 0))
            reader.start()
            yield RealRegistry(address, storage)
        finally:
            process.terminate()
            process.wait()
        reader.join()
