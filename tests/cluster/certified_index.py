"""A package index that speaks TLS with a certificate of an authority that nobody knows."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.wheels import served, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE, VERSION = "windsock-certified", "1.0"

CONFIGURATION = """
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:{address}
"""


@dataclass(frozen=True)
class Index:
    """An index that answers.

    Attributes:
        url: Of its one folder, without a slash at the end.
        authority: The certificate that a client must trust.
    """

    url: str
    authority: Path


@contextmanager
def serving(folder: Path, address: str) -> Iterator[Index]:
    """An index with one package, `PACKAGE`.

    Args:
        folder: For its files.
        address: Of this machine, one that containers reach.
    """
    packages = folder / "files" / "simple" / PACKAGE
    packages.mkdir(parents=True)
    wheel = write_wheel(packages, PACKAGE, VERSION)
    (packages / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel}">{wheel}</a>\n')
    with served(folder / "files", address, _certified(folder, address)) as url:
        yield Index(url=f"{url}/simple", authority=folder / "authority.crt")


def _certified(folder: Path, address: str) -> ssl.SSLContext:
    (folder / "openssl.cnf").write_text(CONFIGURATION.format(address=address))
    _make(folder, "authority", "/CN=windsock-test-authority")
    _make(folder, "server", "/CN=windsock-test-index", "-CA", "authority.crt",
          "-CAkey", "authority.key")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def _make(folder: Path, name: str, subject: str, *signed_by: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-days", "2", "-config", "openssl.cnf"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
            *("-subj", subject, "-extensions", name, *signed_by),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
