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
"""The login of a registry, in Docker's form. With an empty one the SDK looks for no other."""


def has_image(client: DockerClient, name: str, login: Login) -> bool:
    """Whether a registry has an image; the name begins with the registry's address.

    Raises:
        docker.errors.APIError: The registry does not answer, or refuses to.
    """
    from docker.errors import NotFound  # noqa: PLC0415 - heavy

    try:
        client.images.get_registry_data(name, auth_config=login)
    except NotFound:
        return False
    return True


def push(
    client: DockerClient, image: str, name: str, login: Login, progress: Callable[[str], None]
) -> None:
    """Send an image to a registry.

    Args:
        client: A Docker engine.
        image: A tag that the engine has.
        name: The image's name in the registry; the engine knows it only during the push.
        login: For the registry.
        progress: Gets how much is sent.

    Raises:
        EnvironmentFailure: The registry or Docker refuses; the hint has their words.
    """
    from docker.errors import APIError  # noqa: PLC0415 - heavy

    transfer = engine.Transfer(f"pushing {image}", "Pushing", progress)
    repository, _, tag = name.rpartition(":")
    error = ""
    with tagged(client, image, name):
        try:
            for message in client.api.push(
                repository, tag=tag, auth_config=login, stream=True, decode=True
            ):
                # Read on after an error: only a stream that was read frees its connection.
                error = error or str(message.get("error", ""))
                transfer.follow(message)
        except APIError as refused:
            error = engine.words(refused)
    if error:
        address = name.removesuffix(f"/{image}")
        raise EnvironmentFailure(f"{image} cannot be pushed to {address}", error)


@contextmanager
def tagged(client: DockerClient, image: str, name: str) -> Iterator[None]:
    """Give an image a second name while the body runs; a name that was there before stays."""
    was_there = engine.has_image(client, name)  # A node that uses this engine has pulled it.
    repository, _, tag = name.rpartition(":")
    client.images.get(image).tag(repository, tag)
    try:
        yield
    finally:
        if not was_there:
            client.images.remove(name, noprune=True)
