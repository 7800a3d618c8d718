"""The processes on this machine of an environment in a cluster, and the health of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.airflow.health import ASK_SECONDS, HEALTH_NAMES, airflow_health, wait_until_healthy
from windsock.cluster.access.forward import ForwardSettings
from windsock.cluster.api import workloads
from windsock.cluster.manifests import settings as manifest_settings
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync.protocol import TAKE_OVER_HINT
from windsock.sync_process.control import ControlClient
from windsock.sync_process.settings import PodSettings
from windsock.targets.this_machine import sync_says

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.local.programs import Program
    from windsock.targets.cluster.parts import Parts

NAMES = ("sync", "forward")
API_PORT = 8080


def programs(parts: Parts) -> list[Program]:
    """The sync process and the forwarded port, for the supervisor."""
    settings, location = parts.settings, parts.location
    forward = ForwardSettings(
        context=location.context,
        kubeconfig=settings.cluster.kubeconfig or None,
        namespace=location.namespace,
        selector=workloads.selector("api-server"),
        remote_port=API_PORT,
        local_port=parts.port.port,
    ).as_variable()
    pod = PodSettings(
        context=location.context,
        namespace=location.namespace,
        kubeconfig=settings.cluster.kubeconfig,
        client=parts.client,
    )
    return [
        parts.sync_program(
            store=manifest_settings.STORE,
            processor_socket=manifest_settings.PROCESSOR_SOCKET,
            pod=pod,
        ),
        parts.module_program("forward", "windsock.cluster.access.forward", forward),
    ]


def stop(parts: Parts) -> None:
    """End what runs on this machine."""
    (parts.layout.state / ENVIRONMENT_FILE).unlink(missing_ok=True)
    parts.applied.clear()
    if parts.has_secrets:
        parts.supervisor.shutdown()


def health(parts: Parts, environment: Environment, *, seconds: float) -> dict[str, bool]:
    """Component → whether Airflow calls it healthy; of the sync, whether it is connected.

    Args:
        parts: Of the target.
        environment: Which is up.
        seconds: Until Airflow must have answered.
    """
    answer = airflow_health(parts.loopback, environment.url, seconds=seconds)
    found = {name: (answer.get(name) or {}).get("status") == "healthy" for name in HEALTH_NAMES}
    found["sync"] = sync_says(environment, "connected")
    if all(found.values()):  # Else the cluster is asked.
        return found
    return {name: good for name, good in found.items() if name not in parts.not_waited_for}


def wait_healthy(parts: Parts, environment: Environment, progress: Callable[[str], None]) -> None:
    """Wait until Airflow is healthy and the sync is connected.

    Raises:
        EnvironmentFailure: A process of this machine has ended, or somebody else syncs.
    """

    def unhealthy() -> list[str]:
        parts.supervisor.check(*NAMES)
        check_sync_is_ours(parts, environment)
        found = health(parts, environment, seconds=ASK_SECONDS)
        return [name for name, good in found.items() if not good]

    wait_until_healthy(
        unhealthy,
        seconds=parts.settings.up_timeout,
        progress=progress,
        hint=lambda name: f"`invoke logs {name}` shows what it does.",
    )


def check_sync_is_ours(parts: Parts, environment: Environment) -> None:
    """Make sure that nobody else syncs; where no lease could be taken over, take over the store.

    Raises:
        EnvironmentFailure: Somebody else syncs.
    """
    client = ControlClient(environment.control_socket)
    try:
        busy = client.status()["busy"]
    except (WindsockError, KeyError):
        return  # The sync process is just starting.
    if not busy:
        return
    if not parts.lease.use_take_over():
        raise EnvironmentFailure(busy, TAKE_OVER_HINT)
    client.take_over()
