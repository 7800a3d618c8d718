"""The cluster's own certificate authority, the certificates of its parts, and their kubeconfigs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import yaml

from tests.cluster.debian import places

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.debian.commands import Commands

FIRST_SERVICE_ADDRESS = "10.96.0.1"
"""Of the Service `kubernetes`: the first address of the Services' range."""

# Who each part is for the API server: RBAC knows these names.
SUBJECTS = {
    "apiserver": "/CN=kube-apiserver",
    "admin": "/O=system:masters/CN=admin",
    "kubelet": f"/O=system:nodes/CN=system:node:{places.NODE}",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
}
CLIENTS = [name for name in SUBJECTS if name != "apiserver"]

# The machine's own configuration would make an authority of every certificate.
CONFIGURATION = "[req]\ndistinguished_name = subject\n[subject]\n"


def certificate(name: str) -> Path:
    """Where the certificate of a part is."""
    return places.PKI / f"{name}.crt"


def key(name: str) -> Path:
    """Where the private key of a part is."""
    return places.PKI / f"{name}.key"


def kubeconfig(name: str) -> Path:
    """Where the kubeconfig of a part is."""
    return places.PKI / f"{name}.yaml"


def make(commands: Commands, address: str) -> None:
    """Make all of them, for an API server and a kubelet at an address."""
    places.PKI.mkdir(mode=0o700, parents=True, exist_ok=True)
    (places.PKI / "openssl.cnf").write_text(CONFIGURATION)
    _sign(commands, "ca", "/CN=windsock-test-bed", "basicConstraints=critical,CA:TRUE")
    _make_token_keys(commands)
    names = {
        "apiserver": (
            f"IP:{address},IP:{FIRST_SERVICE_ADDRESS},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,"
            "DNS:kubernetes.default,DNS:kubernetes.default.svc"
        ),
        "kubelet": f"IP:{address},DNS:{places.NODE}",
    }
    for name, subject in SUBJECTS.items():
        extensions = ["basicConstraints=critical,CA:FALSE"]
        if name in names:
            extensions.append(f"subjectAltName={names[name]}")
        _sign(commands, name, subject, *extensions, by="ca")
    for name in CLIENTS:
        _write_kubeconfig(kubeconfig(name), name, address)
    _write_kubeconfig(places.KUBECONFIG, "admin", address)


def _sign(
    commands: Commands, name: str, subject: str, *extensions: str, by: str | None = None
) -> None:
    authority: list[str | Path] = ["-CA", certificate(by), "-CAkey", key(by)] if by else []
    commands.run(
        *("openssl", "req", "-x509", "-config", str(places.PKI / "openssl.cnf")),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "3650"),
        *("-subj", subject, "-keyout", str(key(name)), "-out", str(certificate(name))),
        *authority,
        *(word for extension in extensions for word in ("-addext", extension)),
    )


def _make_token_keys(commands: Commands) -> None:
    """Make the pair that the tokens of ServiceAccounts are signed and checked with."""
    commands.run("openssl", "genrsa", "-out", key("tokens"), "2048")
    commands.run(
        "openssl", "rsa", "-in", key("tokens"), "-pubout", "-out", places.PKI / "tokens.pub"
    )


def _write_kubeconfig(path: Path, user: str, address: str) -> None:
    """Write a kubeconfig that holds all it needs, so that it can be copied elsewhere."""
    cluster = {
        "server": f"https://{address}:{places.API_PORT}",
        "certificate-authority-data": _data(certificate("ca")),
    }
    keys = {
        "client-certificate-data": _data(certificate(user)),
        "client-key-data": _data(key(user)),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": places.CONTEXT, "cluster": cluster}],
        "users": [{"name": user, "user": keys}],
        "contexts": [
            {"name": places.CONTEXT, "context": {"cluster": places.CONTEXT, "user": user}}
        ],
        "current-context": places.CONTEXT,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
