"""The health that Airflow reports."""

from __future__ import annotations

import httpx

from windsock.airflow.health import HEALTH_NAMES


def answering(*healthy: str) -> httpx.Client:
    """A client of an API that calls these components healthy."""
    report = {HEALTH_NAMES[name]: {"status": "healthy"} for name in healthy}
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=report)))
