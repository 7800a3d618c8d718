"""Python packages of the tests' own, and a server that has them."""

from __future__ import annotations

import functools
import threading
import zipfile
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def write_wheel(
    folder: Path, package: str, version: str, files: Mapping[str, str] | None = None
) -> str:
    """Write a wheel and return its name.

    Args:
        folder: For it.
        package: Its name; there is a module of it.
        version: Of it.
        files: Further ones, name -> text.
    """
    module = package.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    contents = {
        f"{module}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(files or {}),
    }
    record = "".join(f"{name},,\n" for name in (*contents, f"{about}/RECORD"))
    wheel = f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        for name, text in {**contents, f"{about}/RECORD": record}.items():
            archive.writestr(name, text)
    return wheel


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@contextmanager
def served(folder: Path, address: str, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL of a folder, without a slash at the end.

    Args:
        folder: Whose files can be had.
        address: Of this machine, one that containers reach.
        tls: Certified; none is plain HTTP.
    """
    handler = functools.partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer((address, 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://{address}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
