"""A package index that speaks TLS with a certificate of an authority that nobody knows."""

from __future__ import annotations

import functools
import ssl
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

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


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@contextmanager
def serving(folder: Path, address: str) -> Iterator[Index]:
    """An index with one package, `PACKAGE`.

    Args:
        folder: For its files.
        address: Of this machine, one that containers reach.
    """
    _write_wheel(folder / "files" / "simple" / PACKAGE)
    context = _certified(folder, address)
    handler = functools.partial(_Handler, directory=str(folder / "files"))
    with ThreadingHTTPServer((address, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"https://{address}:{server.server_port}/simple"
            yield Index(url=url, authority=folder / "authority.crt")
        finally:
            server.shutdown()
            thread.join()


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


def _write_wheel(folder: Path) -> None:
    folder.mkdir(parents=True)
    module = PACKAGE.replace("-", "_")
    about = f"{module}-{VERSION}.dist-info"
    files = {
        f"{module}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    wheel = f"{module}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(name, text)
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel}">{wheel}</a>\n')
