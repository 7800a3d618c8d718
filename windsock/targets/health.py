"""Airflow's own word on its components."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

HEALTH_NAMES = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
"""Our name of a component → its name in the answer of Airflow's health endpoint."""

ASK_SECONDS = 5.0
WARM_UP_SECONDS = 30.0


def loopback_client() -> httpx.Client:
    """For this machine alone: a proxy that the environment names is not asked."""
    import httpx  # noqa: PLC0415 - only where it is used

    return httpx.Client(trust_env=False)


def airflow_health(client: httpx.Client, url: str) -> dict[str, dict[str, Any]]:
    """Component → what Airflow says of it; empty as long as the API does not answer.

    Args:
        client: See `loopback_client`.
        url: Of the API, on this machine.
    """
    import httpx  # noqa: PLC0415 - only where it is used

    try:
        answer = client.get(f"{url}/api/v2/monitor/health", timeout=ASK_SECONDS)
        said = answer.json() if answer.status_code == httpx.codes.OK else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return {name: said[key] or {} for name, key in HEALTH_NAMES.items() if key in said}


def warm_up(client: httpx.Client, url: str) -> None:
    """Let the API server build its execution API now, not when the first task asks for it."""
    import httpx  # noqa: PLC0415 - only where it is used

    with contextlib.suppress(httpx.HTTPError):
        client.get(f"{url}/execution/health", timeout=WARM_UP_SECONDS)
