"""Let uv find packages where this machine's pip finds them.

Many machines have only pip configured (a mirror, an internal index, a folder of wheels, a
certificate), and uv reads none of pip's settings. Where the user set nothing for uv, windsock
translates what pip itself reports (`pip config list`: files and environment, merged by pip's own
rules). The names are those of uv's reference, "Environment variables".
"""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.local.commands import run

if TYPE_CHECKING:
    from collections.abc import Mapping

INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
"""If any of these is set, the user has configured uv's package index, and pip is not asked."""


def index_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of uv for what pip is configured to do.

    Args:
        environment: The user's.

    Returns:
        Only variables that `environment` does not set.
    """
    pip = pip_settings(environment)
    settings: dict[str, str] = {}
    if not any(environment.get(name) for name in INDEXES):
        settings |= _places(pip)
    if pip.get("trusted-host"):
        settings["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if pip.get("cert"):
        settings["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("default-timeout") or pip.get("timeout"):
        settings["UV_HTTP_TIMEOUT"] = pip.get("default-timeout") or pip["timeout"]
    # As pip does: certificates that the system trusts are trusted.
    if not environment.get("UV_NATIVE_TLS"):
        settings["UV_SYSTEM_CERTS"] = "true"
    return {name: value for name, value in settings.items() if not environment.get(name)}


def _places(pip: Mapping[str, str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    if pip.get("index-url"):
        settings["UV_DEFAULT_INDEX"] = pip["index-url"]
    if pip.get("extra-index-url"):
        settings["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip takes the best version of all its indexes; uv would stop at the first that knows it.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("find-links"):
        settings["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        settings["UV_NO_INDEX"] = "true"
    return settings


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What pip is configured to do, its sources merged in its own order.

    Returns:
        Option → value; only those of the environment if pip does not answer.
    """
    with suppress(WindsockError):
        listed = run(
            [sys.executable, "-m", "pip", "config", "list"],
            environment=environment,
            folder=Path.home(),
            seconds=30,
        )
        if listed.code == 0:
            return parse_pip_config(listed.output)
    return _from_environment(environment)


def parse_pip_config(text: str) -> dict[str, str]:
    """Read lines such as `global.index-url='https://…'`; the later section wins."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in sections:
            with suppress(ValueError, SyntaxError):  # The line is not `key='value'`.
                sections[section][option] = str(ast.literal_eval(value))
    return sections["global"] | sections["install"] | sections[":env:"]


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith("PIP_") and value
    }
