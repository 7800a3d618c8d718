"""The kubeconfig as far as windsock looks at it itself, without the kubernetes client.

Importing that client takes a second; which contexts there are is asked by every command.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.files import cannot, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBECTLS_OWN = "~/.kube/config"
LOCK_SECONDS = 2.0
"""How long to wait for another program that changes the kubeconfig."""
LOCK_PAUSE_SECONDS = 0.05

_CURRENT = re.compile(r"^current-context:.*\n?", re.MULTILINE)


def paths(kubeconfig: str | None) -> list[Path]:
    """The files that a kubeconfig setting names, existing or not.

    Args:
        kubeconfig: One file, or several as in the variable KUBECONFIG; None means kubectl's own.
    """
    text = kubeconfig or os.environ.get("KUBECONFIG") or ""
    parts = [part for part in text.split(os.pathsep) if part]
    return [Path(part).expanduser() for part in parts or [KUBECTLS_OWN]]


def variable(kubeconfig: str | None) -> dict[str, str]:
    """The variable that names the files of `paths` for another program."""
    return {"KUBECONFIG": os.pathsep.join(str(path) for path in paths(kubeconfig))}


def contexts(kubeconfig: str | None) -> list[str]:
    """The names of all contexts, in the order of the files of `paths`.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    found: dict[str, None] = {}
    for path in paths(kubeconfig):
        with _readable(path):
            found |= {str(item["name"]): None for item in _load(path).get("contexts") or []}
    return list(found)


def _load(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"the kubeconfig {path} cannot be read: {error}",
            "`kubectl config view` reads it the same way.",
        ) from error


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


@contextlib.contextmanager
def current_context_unchanged(
    kubeconfig: str | None, *, new: str, patience: float = LOCK_SECONDS
) -> Iterator[None]:
    """Restore the current context after a program in the body has added a context.

    A kubeconfig that did not exist before gets the current context of that program.

    Args:
        kubeconfig: As for `paths`.
        new: The context that is added.
        patience: Seconds to wait for the lock of the kubeconfig.

    Raises:
        ConfigurationError: The file cannot be read.
        EnvironmentFailure: It cannot be written.
    """
    known = paths(kubeconfig)
    # kubectl adds new entries to this file, and so do kind and other tools.
    path = next((path for path in known if path.is_file()), known[-1])
    existed, before = path.exists(), _current(path)
    try:
        yield
    finally:
        if existed and before != new and _current(path) != before:
            with _locked(path, patience):
                _set_current(path, before)


def _current(path: Path) -> str:
    with _readable(path):
        return str(_load(path).get("current-context") or "")


def _set_current(path: Path, name: str) -> None:
    """Change one line: the file belongs to the user."""
    target = path.resolve()  # a link stays one
    line = f"current-context: {json.dumps(name)}\n"
    with _readable(path):
        text = target.read_text(encoding="utf-8")
        mode = target.stat().st_mode & 0o777
    changed, count = _CURRENT.subn(lambda _: line, text)
    if not count:
        changed = text + line
    write_whole(target, changed, mode=mode)


@contextlib.contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    """Take the lock that kubectl and kind respect: a file next to the kubeconfig.

    Theirs has mode 0, at which filelock's `SoftFileLock` gives up without waiting.
    """
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + patience
    while True:
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError as error:
            if time.monotonic() >= deadline:
                raise EnvironmentFailure(
                    f"somebody else is changing {path}: {lock} is there",
                    "If nobody is, remove that file. Your current context was changed: "
                    "`kubectl config use-context NAME` sets it.",
                ) from error
            time.sleep(LOCK_PAUSE_SECONDS)
        except OSError as error:
            raise cannot(f"make {lock}", error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
