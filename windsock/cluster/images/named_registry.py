"""The registry that `cluster.registry` names: images go there with the user's own login.

The login is the one that `docker login` has stored, in Docker's configuration or in a credential
helper. windsock stores no password of a registry and asks for none.
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

# Words of Docker and of registries when a push is refused.
_NOT_LOGGED_IN = ("unauthorized", "unauthenticated", "authentication required", "no basic auth")
_DENIED = ("denied", "forbidden", "insufficient_scope")
_NOT_TRUSTED = ("server gave http response to https client", "x509")


class NamedRegistry:
    """A registry that this machine and the cluster's nodes reach by the same name.

    Args:
        address: Host, port and path, for example `ghcr.io/anna`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._host = address.partition("/")[0]

    def reference(self, image: str) -> str:
        """The name by which the nodes know an image of this machine."""
        return f"{self._address}/{image}"

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Push those images of Docker that the registry does not have.

        Raises:
            EnvironmentFailure: The registry is not reached, or wants another login.
        """
        with engine.connected(push.TRANSFER_SECONDS) as client:
            login = self._login()
            progress(f"asking {self._host}")
            missing = [image for image in images if not self._has(client, image, login)]
            for image in missing:
                try:
                    push.push(client, image, self.reference(image), login, progress)
                except EnvironmentFailure as error:
                    raise EnvironmentFailure(
                        f"{error.message}: {error.hint}",
                        self._advice(error.hint.lower(), logged_in=bool(login)),
                    ) from error
        return Delivered(detail=f"pushed to {self._address}" if missing else "")

    def _has(self, client: DockerClient, image: str, login: push.Login) -> bool:
        """Whether the registry says that it has an image.

        Some registries refuse the question while a repository does not exist, and make the
        repository at the first push: whether anything is wrong is known after the push.
        """
        from docker.errors import APIError  # noqa: PLC0415 - heavy

        try:
            return push.has_image(client, self.reference(image), login)
        except APIError:
            return False

    def _advice(self, refusal: str, *, logged_in: bool) -> str:
        def mentions(words: tuple[str, ...]) -> bool:
            return any(word in refusal for word in words)

        log_in = f"`docker login {self._host}`"
        if mentions(_NOT_LOGGED_IN) or (mentions(_DENIED) and not logged_in):
            return f"Log in and try again: {log_in}."
        if mentions(_DENIED):
            return (
                f"You are logged in, but may not push there. {log_in} as somebody who may, or "
                "name another place in invoke.yaml: windsock.cluster.registry."
            )
        if mentions(_NOT_TRUSTED):
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
        from docker import auth  # noqa: PLC0415 - heavy
        from docker.errors import DockerException  # noqa: PLC0415 - heavy

        host = auth.resolve_index_name(self._host)
        try:
            with warnings.catch_warnings():
                # A helper that is missing is a warning here, and the error below.
                warnings.simplefilter("ignore")
                found = auth.load_config().resolve_authconfig(host)
        except (DockerException, ValueError, OSError) as error:
            raise EnvironmentFailure(
                f"the login for {self._host} cannot be read: {engine.words(error)}",
                f"`docker login {self._host}` makes it again.",
            ) from error
        return {key: value for key, value in (found or {}).items() if value}
