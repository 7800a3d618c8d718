"""The connection to the Docker engine: where it is, how long it may take, what its errors mean."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import docker

ANSWER_SECONDS = 60
"""How long Docker may take to answer a question; a step of a build may be silent for longer."""


@contextmanager
def connected(silence: int = ANSWER_SECONDS) -> Iterator[docker.DockerClient]:
    """A connection to Docker, which may be silent for some seconds; the SDK's errors become ours.

    Raises:
        EnvironmentFailure: No engine answers, or it refuses what the body asks.
    """
    import docker  # noqa: PLC0415 - heavy
    import docker.errors  # noqa: PLC0415 - heavy
    import requests  # noqa: PLC0415 - heavy; the SDK lets some of its errors through
    from docker.credentials import StoreError  # noqa: PLC0415 - heavy

    client: docker.DockerClient | None = None
    try:
        try:
            client = docker.DockerClient.from_env(
                timeout=silence, environment=variables(os.environ)
            )
            client.ping()
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise _no_engine(error) from error
        try:
            yield client
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EnvironmentFailure("Docker refused", words(error)) from error
        except StoreError as error:  # A build sends along all logins that there are.
            raise EnvironmentFailure(
                f"the logins of Docker cannot be read: {error}",
                "~/.docker/config.json names what stores them: `credsStore`, `credHelpers`.",
            ) from error
    finally:
        if client is not None:
            client.close()


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with DOCKER_HOST: without one it is taken from the current Docker context.

    The `docker` command follows the context (Colima, rootless Docker, …), the SDK does not.
    """
    from docker.context import ContextAPI  # noqa: PLC0415 - heavy

    if environment.get("DOCKER_HOST"):
        return dict(environment)
    name = environment.get("DOCKER_CONTEXT")
    try:
        context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    except (OSError, ValueError, KeyError):  # Damaged: the default engine may answer.
        context = None
    host = getattr(context, "Host", None)
    return {**environment, "DOCKER_HOST": host} if host else dict(environment)


def has_image(client: docker.DockerClient, name: str) -> bool:
    """Whether Docker has an image of this name."""
    import docker.errors  # noqa: PLC0415 - heavy

    try:
        client.images.get(name)
    except docker.errors.NotFound:
        return False
    return True


def _no_engine(error: Exception) -> EnvironmentFailure:
    message = words(error)
    if "Permission denied" in message or "PermissionError" in message:
        return EnvironmentFailure(
            "this user may not talk to the Docker engine",
            "On Linux: `sudo usermod -aG docker $USER`, then log in again.",
        )
    return EnvironmentFailure(
        "no Docker engine answers",
        "Start Docker (`docker info` must work; DOCKER_HOST names another engine), or run without "
        f"it: `invoke up --target local`.\n{message}",
    )


def words(error: Exception) -> str:
    """The words of Docker in an error of the SDK."""
    return str(getattr(error, "explanation", None) or error)


class Transfer:
    """Counts the layers of an image that Docker downloads or pushes.

    Args:
        title: What is transferred.
        status: Docker's word for it: `Downloading` or `Pushing`.
        progress: Gets how much of it is done.
    """

    LISTED = ("Preparing", "Pulling fs layer")
    DONE = ("Pushed", "Layer already exists", "Mounted from", "Download complete")
    """How Docker's words for a layer begin, before the transfer and after it."""

    def __init__(self, title: str, status: str, progress: Callable[[str], None]) -> None:
        self._title = title
        self._status = status
        self._progress = progress
        self._listed: set[str] = set()
        self._done: set[str] = set()
        self._bytes: dict[str, tuple[int, int]] = {}

    def follow(self, message: Mapping[str, Any]) -> None:
        """Read one message of Docker's; one that is not about a layer is ignored."""
        layer, status = str(message.get("id")), str(message.get("status", ""))
        detail = message.get("progressDetail") or {}
        if status.startswith(self.LISTED):
            self._listed.add(layer)
        elif status.startswith(self.DONE):
            self._done.add(layer)
            self._show()
        elif status.startswith("Retrying"):
            self._progress(f"{self._title}: {status[0].lower()}{status[1:]}")
        elif status == self._status and detail.get("total"):
            self._bytes[layer] = (detail.get("current", 0), detail["total"])
            self._show()

    def _show(self) -> None:
        layers = self._listed | self._done | self._bytes.keys()
        sent = sum(current for current, _ in self._bytes.values())
        total = sum(total for _, total in self._bytes.values())
        size = f", {sent >> 20} of {total >> 20} MiB" if total else ""
        self._progress(f"{self._title}: {len(self._done)} of {len(layers)} layers{size}")
