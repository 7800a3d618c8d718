"""Airflow's settings in a cluster, as far as an environment decides them.

Every component and every worker reads the ConfigMap `airflow-settings` as its environment. What
Kubernetes needs stands in kube/base/settings.yaml; these values go over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.airflow import settings as airflow_settings

if TYPE_CHECKING:
    from windsock.config import Settings

DAGS_FOLDER = "WINDSOCK_DAGS_FOLDER"
STORE = "/opt/airflow/store"
"""The snapshot store, in the dag-processor and in workers."""

PROCESSOR_SOCKET = "/run/windsock/dag-processor.sock"
"""Where the dag-processor listens, in its pod."""


def variables(settings: Settings, *, base_url: str, dags_folder: str) -> dict[str, str]:
    """Name → value of each environment variable that all of Airflow's containers get.

    The address is the one in links of the UI; the DAG folder, the one that tracebacks name.
    """
    shared = airflow_settings.shared(settings, store=STORE)
    del shared["core.executor"]  # The one of kube/.
    values = {**shared, "api.base_url": base_url, **settings.airflow}
    return {
        **airflow_settings.environment_variables(values),
        **airflow_settings.runtime_variables(settings),
        DAGS_FOLDER: dags_folder,
    }
