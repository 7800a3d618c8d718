"""The health of Airflow's components, as its API reports it."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

HEALTH_NAMES = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
"""Our name of a component → its name in the answer of Airflow's health endpoint."""

AIRFLOW = tuple(HEALTH_NAMES)
"""Airflow's own components."""

POLL_SECONDS = 0.2

ASK_SECONDS = 30.0
"""For one answer, while health is waited for: a busy machine answers late."""
GLANCE_SECONDS = 5.0
"""For one answer, where somebody only wants to know how it is now."""
WARM_UP_SECONDS = 30.0


def loopback_client() -> httpx.Client:
    """A client for this machine: it ignores the proxy of the environment."""
    import httpx  # noqa: PLC0415 - only where it is used

    return httpx.Client(trust_env=False)


def airflow_health(client: httpx.Client, url: str, *, seconds: float) -> dict[str, dict[str, Any]]:
    """Component → its entry in the health report; empty as long as the API does not answer.

    Args:
        client: See `loopback_client`.
        url: Of the API, on this machine.
        seconds: Until it must have answered.
    """
    import httpx  # noqa: PLC0415 - only where it is used

    try:
        answer = client.get(f"{url}/api/v2/monitor/health", timeout=seconds)
        report = answer.json() if answer.status_code == httpx.codes.OK else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return {name: report[key] or {} for name, key in HEALTH_NAMES.items() if key in report}


def warm_up(client: httpx.Client, url: str) -> None:
    """Let the API server build its execution API now, not when the first task asks for it."""
    import httpx  # noqa: PLC0415 - only where it is used

    with contextlib.suppress(httpx.HTTPError):
        client.get(f"{url}/execution/health", timeout=WARM_UP_SECONDS)


def is_healthy(entry: dict[str, Any], name: str, *, since: datetime | None) -> bool:
    """Whether a component is healthy, and the report is about the process that runs now.

    Airflow calls a component healthy for 30 s after its last heartbeat, even if that came from a
    process that was killed.

    Args:
        entry: Of this component in the health report.
        name: Of the component.
        since: When its process was started, cut to the second.
    """
    if entry.get("status") != "healthy" or since is None:
        return False
    heartbeat = entry.get(f"latest_{HEALTH_NAMES[name]}_heartbeat")
    # A process sends no heartbeat in its first second; the one before it may have.
    return heartbeat is None or datetime.fromisoformat(heartbeat) >= since + timedelta(seconds=1)


def wait_until_healthy(
    unhealthy: Callable[[], list[str]],
    *,
    seconds: float,
    progress: Callable[[str], None],
    hint: Callable[[str], str],
) -> None:
    """Wait until nothing is unhealthy any more.

    Args:
        unhealthy: Names what is not healthy now; raises if waiting is of no use.
        seconds: The longest it may take.
        progress: Gets what is waited for.
        hint: What to do about a component that did not become healthy.

    Raises:
        DeadlineExceeded: It took longer.
    """
    deadline = time.monotonic() + seconds
    while waiting := unhealthy():
        names = ", ".join(waiting)
        progress(f"waiting for {names}")
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"{names} did not become healthy within {seconds:.0f} s", hint(waiting[0])
            )
        time.sleep(POLL_SECONDS)
