"""What goes into the images: the files, the tags that stand for them, and the build's context."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from windsock.errors import ConfigurationError
from windsock.files import decoded
from windsock.local.components import runtime_sources
from windsock.local.index import index_settings, pip_settings
from windsock.local.requirements import included, read_requirements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from windsock.config import Settings

DOCKERFILE = "docker/Dockerfile"
REQUIREMENTS = "docker/requirements.txt"
"""Where the build looks for the project's own packages, wherever the settings have them."""

CONSTRAINTS = "docker/constraints.txt"
"""Where it looks for the constraints that the project's own packages name."""

CERTIFICATES = "docker/certs"
SHARED = (DOCKERFILE, "docker/install.sh")
OWN = {
    "postgres": ("docker/postgres.sh",),
    "airflow": ("docker/requirements.lock", "docker/packages.txt", "docker/bootstrap.sh"),
}
"""Target of the Dockerfile → files that only its image is made of."""

INDEX_ARGUMENTS = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INSECURE_HOST"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"),
)
"""The arguments of the Dockerfile that name where packages come from."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Docker knows these arguments without a declaration, and does not store them in the image."""

Content = dict[str, bytes]
"""Path in the build's context → content."""


def sources(settings: Settings, target: str) -> dict[str, Path]:
    """The project's own files that one image is made of: path in the build's context → file.

    The file of the requirements may not exist.
    """
    found = {name: settings.project / name for name in (*SHARED, *OWN[target])}
    for path in sorted((settings.project / CERTIFICATES).glob("*.crt")):
        found[f"{CERTIFICATES}/{path.name}"] = path
    if target == "airflow":
        # The first is in the build's context, with all that the others add to it.
        own = included(settings.path(settings.requirements))
        found |= {REQUIREMENTS + "+" * number: path for number, path in enumerate(own)}
    return found


def content(settings: Settings, target: str) -> Content:
    """Everything that one image is made of.

    Raises:
        ConfigurationError: A file is missing, cannot be read, or names one that does not exist.
    """
    files = sources(settings, target)
    found: Content = {}
    if target == "airflow":
        files = {
            **{name: path for name, path in files.items() if not name.startswith(REQUIREMENTS)},
            **runtime_sources(),
        }
        found |= _requirements(settings.path(settings.requirements))
    try:
        found |= {name: path.read_bytes() for name, path in files.items()}
    except OSError as error:
        raise ConfigurationError(
            f"the images cannot be built: {error.filename}: {error.strerror}",
            "Everything below docker/ is needed; `git status` shows what is missing.",
        ) from error
    return found


def _requirements(file: Path) -> Content:
    """The project's own packages, with what the file includes in its place."""
    own = read_requirements(file)
    data = file.read_bytes() if file.exists() else b""
    if len(own.files) == 1 and decoded(data).encode("utf-8", "replace") == data:
        return {REQUIREMENTS: data}  # It needs nothing done to it.
    if not own.constraints:
        return {REQUIREMENTS: own.text.encode()}
    text = f"--constraint {PurePath(CONSTRAINTS).name}\n{own.text}"
    return {REQUIREMENTS: text.encode(), CONSTRAINTS: own.constraints.encode()}


def tag(target: str, content: Content) -> str:
    """The name of the image that is made of exactly these files."""
    digest = hashlib.sha256()
    for name, data in sorted(content.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return f"windsock-{target}:{digest.hexdigest()[:12]}"


def context(content: Content) -> io.BytesIO:
    """A tar archive of these files and no others; the same files make the same bytes.

    Docker compares what it copies, without the times, with what it copied before.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo(CERTIFICATES)  # The Dockerfile copies it, empty or not.
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, data in sorted(content.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(data))
    stream.seek(0)
    return stream


def arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """The build's arguments: the proxies and package indexes that this machine uses.

    An address with a password in it is left out: every user of the image could read it.
    """
    pip = pip_settings(environment)
    known = {
        **{f"PIP_{name.upper().replace('-', '_')}": value for name, value in pip.items()},
        **index_settings(environment),
        **environment,
    }
    indexes = {name: known[name] for name in INDEX_ARGUMENTS if known.get(name)}
    proxies = {
        spelling: environment[spelling]
        for name in PROXIES
        for spelling in (name, name.lower())
        if environment.get(spelling)
    }
    return {name: value for name, value in indexes.items() if _is_public(value)} | proxies


def _is_public(value: str) -> bool:
    """Whether an index means the same in the image, and may be read by everybody who has it."""
    addresses = [urlsplit(word.rpartition("=")[2]) for word in value.split() if "://" in word]
    return all(each.scheme in {"http", "https"} and "@" not in each.netloc for each in addresses)
