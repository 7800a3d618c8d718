"""Sending images of this machine's Docker to a registry: only the layers that it lacks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from windsock.cluster.images import engine
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient

TRANSFER_SECONDS = 600
"""How long a push or a pull may be silent: crictl is silent until it has the whole image."""

Login = dict[str, str]
"""What a registry wants to know of its user, in Docker's form; empty if it wants nothing."""


def has_image(client: DockerClient, name: str, login: Login) -> bool:
    """Whether a registry has an image.

    Args:
        client: Of a Docker engine.
        name: Of the image: the registry's address, a slash, and the rest.
        login: Of the registry.

    Raises:
        docker.errors.APIError: It does not answer, or refuses to.
    """
    from docker.errors import NotFound  # noqa: PLC0415 - heavy

    try:
        client.images.get_registry_data(name, auth_config=dict(login))
    except NotFound:
        return False
    return True


def push(
    client: DockerClient, image: str, name: str, login: Login, progress: Callable[[str], None]
) -> None:
    """Send an image to a registry: the layers that are not there.

    Args:
        client: Of a Docker engine.
        image: A tag that it has.
        name: Of the image in the registry; Docker knows it only meanwhile.
        login: Of the registry.
        progress: Gets how much is sent.

    Raises:
        EnvironmentFailure: The registry or Docker refuses; the hint has their words.
    """
    transfer = engine.Transfer(f"pushing {image}", "Pushing", progress)
    with tagged(client, image, name):
        error = _send(client, name, login, transfer)
    if error:
        address = name.removesuffix(f"/{image}")
        raise EnvironmentFailure(f"{image} cannot be pushed to {address}", error)


def _send(client: DockerClient, name: str, login: Login, transfer: engine.Transfer) -> str:
    """Push; returns what Docker has against it."""
    from docker.errors import APIError  # noqa: PLC0415 - heavy

    repository, _, tag = name.rpartition(":")
    error = ""
    try:
        # Given a login, be it an empty one, the SDK looks nothing up.
        for message in client.api.push(
            repository, tag=tag, auth_config=dict(login), stream=True, decode=True
        ):
            # Read on after an error: the SDK's connection is free at the end.
            error = error or str(message.get("error", ""))
            transfer.follow(message)
    except APIError as refused:
        return engine.words(refused)
    return error


@contextmanager
def tagged(client: DockerClient, image: str, name: str) -> Iterator[None]:
    """A second name for an image, while the body runs; one that was there before stays.

    Args:
        client: Of a Docker engine.
        image: A tag that it has.
        name: The other one.
    """
    was_there = engine.has_image(client, name)  # A node that uses this engine has pulled it.
    repository, _, tag = name.rpartition(":")
    client.images.get(image).tag(repository, tag)
    try:
        yield
    finally:
        if not was_there:
            client.images.remove(name, noprune=True)
