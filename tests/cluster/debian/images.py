"""The images that nobody can pull here: the base of docker/Dockerfile, and a pod's sandbox.

The base is Debian as debootstrap makes it, with Python in it, under the name that the Dockerfile
expects. It trusts what this machine trusts and asks the package index that this machine asks, so
that a build in it works where the machine's own pip works. It holds Debian's Python, whatever
version its name says: a stand-in, for trying and testing only.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.cluster.debian import packages, places
from tests.cluster.debian.binaries import scratch
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from tests.cluster.debian.commands import Commands

BASE = "python:3.12-slim-bookworm"
PAUSE = "windsock-pause:1"

RECIPE = "1"
"""To be counted up when what goes into the files changes, so that no cached file is used then."""

INCLUDED = ("ca-certificates", "python3", "python3-pip", "python3-venv")

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)

CARRIED = ("index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout", "retries")
CARRIED_OF_UV = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
)


def are_there(commands: Commands) -> bool:
    """Whether docker has both images."""
    return all(_has(commands, image) for image in (BASE, PAUSE))


def _has(commands: Commands, image: str) -> bool:
    return commands.succeeds("docker", "image", "inspect", image)


def add_base(commands: Commands) -> None:
    """Give docker the base image, unless it has one of that name, be it the real one or ours."""
    if _has(commands, BASE):
        return
    files = _base_files(commands)
    variables = {
        "LANG": "C.UTF-8",
        # Each program has its own idea of where certificates are. /etc/ssl is for all of them.
        **dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), f"/{BUNDLE}"),
        **index_settings(commands),
    }
    changes = [f'ENV {name}="{value}"' for name, value in variables.items()]
    _import(commands, files, BASE, [*changes, 'CMD ["python3"]', "LABEL windsock.stand-in=true"])


def add_pause(commands: Commands) -> None:
    """Give docker the image of a pod's sandbox."""
    if _has(commands, PAUSE):
        return
    files = places.cache() / "pause.tar"
    if not files.exists():
        packages.install(commands, packages.missing(packages.TO_BUILD))
        with scratch() as work:
            source = Path(__file__).with_name("pause.c")
            commands.run("gcc", "-static", "-Os", "-o", work / "pause", source)
            commands.run("tar", "-C", work, "-cf", work / "pause.tar", "pause")
            (work / "pause.tar").rename(files)
    _import(commands, files, PAUSE, ['ENTRYPOINT ["/pause"]'])


def _import(commands: Commands, files: Path, image: str, changes: list[str]) -> None:
    options = [word for change in changes for word in ("--change", change)]
    commands.run("docker", "import", *options, files, image)


def _base_files(commands: Commands) -> Path:
    """The base image's files, from the cache if they were made of the same before."""
    sources = packages.sources(commands)
    settings = packages.apt_settings(commands)
    trusted = "".join(_machine_certificates())
    made_of = repr((RECIPE, INCLUDED, sources, settings, trusted))
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    files = places.cache() / f"base-{digest}.tar"
    if not files.exists():
        packages.install(commands, packages.missing(packages.TO_MAKE_AN_IMAGE))
        with scratch() as work:
            _bootstrap(commands, work / "root", sources)
            _set_up_apt(work / "root", sources, settings)
            _trust(commands, work / "root")
            _set_up_python(work / "root")
            commands.run("tar", "-C", work / "root", "-cf", work / "base.tar", ".")
            for older in places.cache().glob("base-*.tar"):
                older.unlink()
            (work / "base.tar").rename(files)
    return files


def _bootstrap(commands: Commands, root: Path, sources: list[packages.Source]) -> None:
    mirrors = [each.address for each in sources if each.suite == packages.SUITE]
    if not mirrors:
        raise EnvironmentFailure(f"apt has no source of {packages.SUITE}")
    # In namespaces of its own: an interrupt leaves neither a process nor a mount.
    commands.run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}"),
        *(packages.SUITE, root, mirrors[0]),
    )


def _set_up_apt(root: Path, sources: list[packages.Source], settings: str) -> None:
    lines = [f"deb {each.address} {each.suite} {each.component}\n" for each in sources]
    (root / "etc/apt/sources.list").write_text("".join(lines))
    (root / "etc/apt/apt.conf.d/90machine").write_text(settings)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for left in (root / folder).glob("*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _machine_certificates() -> list[str]:
    bundle = Path("/") / BUNDLE
    return CERTIFICATE.findall(bundle.read_text()) if bundle.exists() else []


def _trust(commands: Commands, root: Path) -> None:
    """Add the authorities that this machine trusts and Debian does not, as Debian wants it.

    A bundle that is only copied would be lost at the next `update-ca-certificates`.
    """
    known = set(CERTIFICATE.findall((root / BUNDLE).read_text()))
    local = root / "usr/local/share/ca-certificates"
    local.mkdir(parents=True, exist_ok=True)
    own = [each for each in _machine_certificates() if each not in known]
    for number, certificate in enumerate(own):
        (local / f"machine-{number}.crt").write_text(certificate)
    commands.run("chroot", root, "update-ca-certificates")


def _set_up_python(root: Path) -> None:
    """Make it look like the image it stands in for: `python`, and a pip that may install."""
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for marker in root.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        marker.unlink()


def index_settings(commands: Commands) -> dict[str, str]:
    """Which package index this machine's pip and uv use, as variables for an image.

    What is only good here (an index in a folder) or must not stand in an image (a password) stays
    behind.
    """
    found = {name: value for name in CARRIED_OF_UV if (value := os.environ.get(name))}
    try:
        listed = commands.run(
            sys.executable, "-m", "pip", "config", "list", environment=dict(os.environ)
        )
    except EnvironmentFailure:  # an environment made by uv has no pip
        listed = ""
    found |= _pip_variables(listed)
    return {name: value for name, value in found.items() if _may_be_carried(value)}


def _pip_variables(listed: str) -> dict[str, str]:
    found = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in CARRIED:
            found[f"PIP_{option.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    return found


def _may_be_carried(value: str) -> bool:
    return all(_is_address_without_secret(word) for word in value.split() if "://" in word)


def _is_address_without_secret(word: str) -> bool:
    address = urlsplit(word.rpartition("=")[2])  # uv writes name=address
    return address.scheme in {"http", "https"} and "@" not in address.netloc
