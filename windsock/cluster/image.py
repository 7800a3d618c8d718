"""The images, built when what goes into them changed. The one owner of the docker SDK.

A tag is a digest of everything that goes into its image, so that "is it there" is one question to
Docker, and the tag in a manifest says exactly what runs.
"""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster import recipe
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import docker

    from windsock.config import Settings

TARGETS = ("postgres", "airflow")
LINES_SHOWN = 25
ANSWER_SECONDS = 60
"""How long Docker may take to answer a question; a step of a build may be silent for longer."""

STEP = re.compile(r"Step (\d+/\d+) : (.*)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class Images:
    """The two images of an environment.

    Attributes:
        airflow: Its tag.
        postgres: Its tag.
        built: Whether at least one was built now.
    """

    airflow: str
    postgres: str
    built: bool = False


def wanted(settings: Settings) -> Images:
    """The tags that the files on disk stand for; Docker is not asked.

    Raises:
        ConfigurationError: A file is missing.
    """
    tags = _tags(_contents(settings))
    return Images(airflow=tags["airflow"], postgres=tags["postgres"])


def _contents(settings: Settings) -> dict[str, recipe.Content]:
    return {target: recipe.content(settings, target) for target in TARGETS}


def _tags(contents: Mapping[str, recipe.Content]) -> dict[str, str]:
    return {target: recipe.tag(target, content) for target, content in contents.items()}


def ensure(settings: Settings, *, progress: Callable[[str], None]) -> Images:
    """Build the images that Docker does not have yet.

    Args:
        settings: Of the environment.
        progress: Gets what the build does, a line at a time.

    Raises:
        ConfigurationError: A file is missing.
        EnvironmentFailure: No Docker engine answers, or a step of the build fails.
    """
    contents = _contents(settings)
    tags = _tags(contents)
    with _docker() as client:
        missing = [target for target in TARGETS if not _has(client, tags[target])]
        for target in missing:
            # The classic builder also makes the stages before the one that is wanted.
            build = _Build(target, progress)
            build.follow(
                client.api.build(
                    fileobj=recipe.context(*contents.values()),
                    custom_context=True,
                    dockerfile=recipe.DOCKERFILE,
                    target=target,
                    tag=tags[target],
                    buildargs=recipe.arguments(os.environ),
                    rm=True,
                    forcerm=True,
                    decode=True,
                    timeout=None,
                )
            )
    return Images(airflow=tags["airflow"], postgres=tags["postgres"], built=bool(missing))


def save(image: str, archive: Path) -> None:
    """Write an image to a tar archive.

    Raises:
        EnvironmentFailure: Docker does not have it or does not answer, or the disk is full.
    """
    with _docker() as client:
        layers = client.images.get(image).save(named=True)
        try:
            with archive.open("wb") as file:
                file.writelines(layers)
        except OSError as error:  # The SDK's errors are some too.
            raise EnvironmentFailure(f"{image} cannot be written to {archive}: {error}") from error


@contextmanager
def _docker() -> Iterator[docker.DockerClient]:
    """A connection to Docker; none of the SDK's errors leaves this module."""
    import docker  # noqa: PLC0415 - heavy
    import docker.errors  # noqa: PLC0415 - heavy
    import requests  # noqa: PLC0415 - heavy; the SDK lets some of its errors through

    client: docker.DockerClient | None = None
    try:
        try:
            client = docker.DockerClient.from_env(
                timeout=ANSWER_SECONDS, environment=_engine(os.environ)
            )
            client.ping()
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise _no_engine(error) from error
        try:
            yield client
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EnvironmentFailure("Docker refused", _words(error)) from error
    finally:
        if client is not None:
            client.close()


def _engine(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that name the engine, taken from the current Docker context if none does.

    The `docker` command follows the context (Colima, rootless Docker, …), the SDK does not.
    """
    from docker.context import ContextAPI  # noqa: PLC0415 - heavy

    if environment.get("DOCKER_HOST"):
        return dict(environment)
    name = environment.get("DOCKER_CONTEXT")
    try:
        context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    except (OSError, ValueError, KeyError):  # Damaged: the default engine may do all the same.
        context = None
    host = getattr(context, "Host", None)
    return {**environment, "DOCKER_HOST": host} if host else dict(environment)


def _no_engine(error: Exception) -> EnvironmentFailure:
    said = _words(error)
    if "Permission denied" in said or "PermissionError" in said:
        return EnvironmentFailure(
            "this user may not talk to the Docker engine",
            "On Linux: `sudo usermod -aG docker $USER`, then log in again.",
        )
    return EnvironmentFailure(
        "no Docker engine answers",
        "Start Docker (`docker info` must work; DOCKER_HOST names another engine), or run without "
        f"it: `invoke up --target local`.\n{said}",
    )


def _words(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)


def _has(client: docker.DockerClient, tag: str) -> bool:
    import docker.errors  # noqa: PLC0415 - heavy

    try:
        client.images.get(tag)
    except docker.errors.NotFound:
        return False
    return True


class _Build:
    """Follows what Docker tells about a build.

    Args:
        target: Of the Dockerfile.
        progress: Gets each step, and what a long step says.
    """

    def __init__(self, target: str, progress: Callable[[str], None]) -> None:
        self._target = target
        self._progress = progress
        self._step = ""
        self._said: deque[str] = deque(maxlen=LINES_SHOWN)
        self._layers: dict[str, tuple[int, int]] = {}

    def follow(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Read all messages.

        Raises:
            EnvironmentFailure: A step failed, or the build ended without an image.
        """
        done, error, rest = False, "", ""
        for message in messages:  # Also after an error: the SDK's connection is free at the end.
            error = error or str(message.get("error", ""))
            if "progressDetail" in message:
                self._pull(message)
            # A message may hold half a line, or many.
            *lines, rest = (rest + str(message.get("stream", ""))).split("\n")
            for line in lines:
                self._line(COLOUR.sub("", line).strip())
                done = done or line.startswith("Successfully tagged")
        self._line(COLOUR.sub("", rest).strip())
        if error or not done:
            raise self._failure(error or "Docker ended the build without a word")

    def _line(self, line: str) -> None:
        if not line:
            return
        step = STEP.match(line)
        if step:
            self._said.clear()  # What the steps before said is of no use to anybody.
            self._step = f"{self._target} {step[1]}: {_one_line(step[2])}"
            self._progress(self._step)
        elif not line.startswith(("--->", "Removing intermediate container")):
            self._said.append(line)
            self._progress(f"{self._step} · {line}")

    def _pull(self, message: Mapping[str, Any]) -> None:
        """The base image comes, in layers."""
        detail = message.get("progressDetail") or {}
        if detail.get("total") and message.get("status") == "Downloading":
            self._layers[str(message.get("id"))] = (detail.get("current", 0), detail["total"])
            there = sum(current for current, _ in self._layers.values())
            total = sum(total for _, total in self._layers.values())
            self._progress(f"base image: {there >> 20} of {total >> 20} MiB")

    def _failure(self, error: str) -> EnvironmentFailure:
        said = "\n".join(self._said)
        if "no space left" in (error + said).lower():
            return EnvironmentFailure(
                f"the disk is full: the image {self._target} cannot be built",
                "`docker system df` shows what Docker keeps, `docker image prune` frees some.",
            )
        return EnvironmentFailure(
            f"the image {self._target} cannot be built: {error}", f"{self._step}\n{said}".strip()
        )


def _one_line(text: str, length: int = 60) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 1]}…"
