"""Which contexts there are, read without the kubernetes client, whose import takes a second."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from windsock.errors import ConfigurationError


def paths(kubeconfig: str | None) -> list[Path]:
    """The files that a kubeconfig setting names, existing or not.

    Args:
        kubeconfig: One file, or several as in the variable KUBECONFIG; None means kubectl's own.
    """
    text = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~", ".kube", "config"))
    return [Path(part).expanduser() for part in text.split(os.pathsep) if part]


def contexts(kubeconfig: str | None) -> list[str]:
    """The names of all contexts, in the order of the files.

    Args:
        kubeconfig: See `paths`.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    found: dict[str, None] = {}
    for path in paths(kubeconfig):
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            found |= {str(item["name"]): None for item in loaded.get("contexts") or []}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the kubeconfig {path} cannot be read: {error}",
                "`kubectl config view` reads it the same way.",
            ) from error
    return list(found)


def check_context(context: str, kubeconfig: str | None) -> None:
    """Refuse a context that does not exist.

    Raises:
        ConfigurationError: There is no kubeconfig, or it has no such context.
    """
    known = contexts(kubeconfig)
    if context in known:
        return
    places = ", ".join(str(path) for path in paths(kubeconfig))
    if not known:
        raise ConfigurationError(
            f"there is no cluster to go to: {places} names no context",
            "Set KUBECONFIG, fetch the cluster's kubeconfig, or run without a cluster: "
            "`invoke up --target local`.",
        )
    raise ConfigurationError(
        f"there is no context {context!r} in {places}", f"There are: {', '.join(sorted(known))}."
    )
