"""The registry that `cluster.registry` names: images go there with the user's own login.

What `docker login` has stored is used, be it in Docker's configuration or in a credential helper;
windsock stores no password of a registry and asks for none.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from windsock.cluster.images import engine, push
from windsock.cluster.images.delivery import Delivered
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docker import DockerClient

NOT_LOGGED_IN = ("unauthorized", "unauthenticated", "authentication required", "no basic auth")
DENIED = ("denied", "forbidden", "insufficient_scope")
WITHOUT_TLS = "server gave http response to https client"
UNTRUSTED = "x509"


class NamedRegistry:
    """A registry that this machine and the cluster's nodes reach by the same name.

    Args:
        address: Host, port and path, for example `ghcr.io/anna`.
    """

    def __init__(self, address: str) -> None:
        self.destination = address
        self._host = address.partition("/")[0]

    def reference(self, image: str) -> str:
        """What the nodes call an image of this machine."""
        return f"{self.destination}/{image}"

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Push the images that it does not have.

        Args:
            images: Tags that Docker has.
            progress: Gets what is done.

        Raises:
            EnvironmentFailure: It is not reached, or wants another login.
        """
        with engine.connected(push.TRANSFER_SECONDS) as client:
            login = self._login()
            progress(f"asking {self._host}")
            missing = [image for image in images if not self._has(client, image, login)]
            for image in missing:
                self._push(client, image, login, progress)
        return Delivered(images=missing)

    def _has(self, client: DockerClient, image: str, login: push.Login) -> bool:
        """Whether it is known to have an image.

        Some registries deny that to everybody while a repository does not exist, and make it at the
        first push: what is wrong, if anything is, is known after the push.
        """
        from docker.errors import APIError  # noqa: PLC0415 - heavy

        try:
            return push.has_image(client, self.reference(image), login)
        except APIError:
            return False

    def _push(
        self,
        client: DockerClient,
        image: str,
        login: push.Login,
        progress: Callable[[str], None],
    ) -> None:
        try:
            push.push(client, image, self.reference(image), login, progress)
        except EnvironmentFailure as error:
            words = error.hint
            raise EnvironmentFailure(
                f"{error.message}: {words}", self._advice(words.lower(), known=bool(login))
            ) from error

    def _advice(self, words: str, *, known: bool) -> str:
        log_in = f"`docker login {self._host}`"
        refused = any(word in words for word in NOT_LOGGED_IN)
        denied = any(word in words for word in DENIED)
        if refused or (denied and not known):
            return f"Log in and try again: {log_in}."
        if denied:
            return (
                f"You are logged in, but may not push there. {log_in} as somebody who may, or "
                "name another place in invoke.yaml: windsock.cluster.registry."
            )
        if WITHOUT_TLS in words or UNTRUSTED in words:
            return (
                "Docker does not trust it: it pushes without TLS to this machine alone (127.0.0.1) "
                "and to the `insecure-registries` of its own configuration; the certificate of an "
                f"authority of yours goes to /etc/docker/certs.d/{self._host}/ca.crt."
            )
        return (
            f"Does it answer? {log_in} asks it as well. invoke.yaml names it: "
            "windsock.cluster.registry."
        )

    def _login(self) -> push.Login:
        """What `docker login` has stored for it."""
        from docker import auth  # noqa: PLC0415 - heavy
        from docker.errors import DockerException  # noqa: PLC0415 - heavy

        host = auth.resolve_index_name(self._host)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of a helper that is missing: an error below.
                found = auth.load_config().resolve_authconfig(host)
        except (DockerException, ValueError, OSError) as error:
            raise EnvironmentFailure(
                f"the login for {self._host} cannot be read: {engine.words(error)}",
                f"`docker login {self._host}` makes it again.",
            ) from error
        return {key: value for key, value in (found or {}).items() if value}
