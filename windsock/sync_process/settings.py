"""The settings of the sync process: one JSON object in an environment variable, no secrets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.cluster.api.client import Cluster

VARIABLE = "WINDSOCK_SERVICE"


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """The cluster in which the agent runs, in the pod of the dag-processor.

    Attributes:
        context: A kube context.
        namespace: Of the environment.
        kubeconfig: A file; empty means what kubectl would use.
        client: Our name in the lease and the lock; see `windsock.cluster.api.lease.identity`.
    """

    context: str
    namespace: str
    kubeconfig: str = ""
    client: str = ""

    def connect(self) -> Cluster:
        """The cluster's API, in the namespace."""
        from windsock.cluster.api.client import Cluster  # noqa: PLC0415 - heavy

        return Cluster.connect(
            context=self.context, namespace=self.namespace, kubeconfig=self.kubeconfig or None
        )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """All settings: absolute paths, seconds and bytes.

    Attributes:
        pod: Where the agent runs; None means on this machine.
        further: Name in the tree → folder, of what is synced with the DAG folder.
        env_file: The project's environment file, for `${NAME}` in the settings; empty for none.
        secrets: The folder of the environment's secrets.
        up_timeout: Until a component that does not become healthy is a failure.
    """

    dags_folder: str
    store: str
    processor_socket: str
    control_socket: str
    state_folder: str
    airflow_settings: str
    quiet: float
    longest: float
    keep_snapshots: int
    maximum_bytes: int
    pod: PodSettings | None = None
    further: dict[str, str] = field(default_factory=dict)
    secrets: str = ""
    env_file: str = ""
    up_timeout: float = 180.0

    def as_variable(self) -> dict[str, str]:
        """The environment variable for the process."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_variable(cls, environment: Mapping[str, str]) -> ServiceSettings:
        """Read it back."""
        values = json.loads(environment[VARIABLE])
        pod = values.pop("pod")
        return cls(**values, pod=None if pod is None else PodSettings(**pod))
