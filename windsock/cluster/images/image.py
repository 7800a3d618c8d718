"""The images, built when what goes into them changed.

A tag is a digest of everything that goes into its image, so that "is it there" is one question to
Docker, and the tag in a manifest names exactly what runs.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.images import engine, recipe
from windsock.cluster.images.push import TRANSFER_SECONDS
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from windsock.config import Settings

TARGETS = ("postgres", "airflow")
LINES_SHOWN = 25
STEP_WIDTH = 60

STEP = re.compile(r"Step (\d+/\d+) : (.*)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class Images:
    """The two images of an environment.

    Attributes:
        airflow: Its name, with a tag or a digest.
        postgres: As of `airflow`.
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
    tags = {target: recipe.tag(target, recipe.content(settings, target)) for target in TARGETS}
    return Images(airflow=tags["airflow"], postgres=tags["postgres"])


def ensure(settings: Settings, *, progress: Callable[[str], None]) -> Images:
    """Build the images that Docker does not have yet; `progress` gets each line of the build.

    Raises:
        ConfigurationError: A file is missing.
        EnvironmentFailure: No Docker engine answers, or a step of the build fails.
    """
    contents = {target: recipe.content(settings, target) for target in TARGETS}
    tags = {target: recipe.tag(target, content) for target, content in contents.items()}
    # The classic builder also makes the stages before the one that is wanted.
    files = {name: data for content in contents.values() for name, data in content.items()}
    with engine.connected() as client:
        missing = [target for target in TARGETS if not engine.has_image(client, tags[target])]
        for target in missing:
            _Build(target, progress).follow(
                client.api.build(
                    fileobj=recipe.context(files),
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
    # Docker may write all of it to a folder of its own before it sends the first byte.
    with engine.connected(TRANSFER_SECONDS) as client:
        layers = client.images.get(image).save(named=image)
        try:
            with archive.open("wb") as file:
                file.writelines(layers)
        except OSError as error:  # Some of the SDK's errors are one too.
            raise EnvironmentFailure(f"{image} cannot be written to {archive}: {error}") from error


class _Build:
    """Follows the messages of Docker about a build."""

    def __init__(self, target: str, progress: Callable[[str], None]) -> None:
        self._target = target
        self._progress = progress
        self._step = ""
        self._lines: deque[str] = deque(maxlen=LINES_SHOWN)
        self._base = engine.Transfer("base image", "Downloading", progress)

    def follow(self, messages: Iterable[Mapping[str, Any]]) -> None:
        done, error, rest = False, "", ""
        for message in messages:  # Also after an error: the end frees the SDK's connection.
            error = error or str(message.get("error", ""))
            self._base.follow(message)
            # A message may have half a line, or many lines.
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
            self._lines.clear()  # The output of earlier steps helps nobody.
            command = textwrap.shorten(step[2], STEP_WIDTH, placeholder="…")
            self._step = f"{self._target} {step[1]}: {command}"
            self._progress(self._step)
        elif not line.startswith(("--->", "Removing intermediate container")):
            self._lines.append(line)
            self._progress(f"{self._step} · {line}")

    def _failure(self, error: str) -> EnvironmentFailure:
        lines = "\n".join(self._lines)
        if "no space left" in (error + lines).lower():
            return EnvironmentFailure(
                f"the disk is full: the image {self._target} cannot be built",
                "`docker system df` shows what Docker stores, `docker image prune` frees some.",
            )
        return EnvironmentFailure(
            f"the image {self._target} cannot be built: {error}", f"{self._step}\n{lines}".strip()
        )
