"""Airflow's settings in a cluster: those that every target shares, and what Kubernetes needs.

They are the ConfigMap `airflow-settings`, which every component and every worker reads as its
environment. kube/base/settings.yaml holds them for the default settings, so that `kubectl apply -k`
by hand gives the same Airflow (a unit test compares the two).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.airflow import settings as airflow_settings

if TYPE_CHECKING:
    from windsock.config import Settings

STORE = "/opt/airflow/store"
"""The snapshot store, in the dag-processor and in workers."""

PROCESSOR_SOCKET = "/run/windsock/dag-processor.sock"
"""Where the dag-processor listens, in its pod."""

USERS = "/opt/airflow/users.json"
"""The API server's copy of the users file, which Airflow opens for appending."""

API = "http://airflow-api-server:8080"
LOGS = "/opt/airflow/logs"


def variables(settings: Settings, *, namespace: str, base_url: str) -> dict[str, str]:
    """Name → value of every environment variable that all of Airflow's containers get.

    Args:
        settings: Of the environment.
        namespace: Where workers are made.
        base_url: Where a person reaches the UI, for the links in it.
    """
    values = {
        **airflow_settings.shared(settings, store=STORE),
        "core.executor": "KubernetesExecutor",
        "core.parallelism": "32",
        "core.execution_api_server_url": f"{API}/execution/",
        "core.simple_auth_manager_passwords_file": USERS,
        "api.host": "0.0.0.0",  # noqa: S104 - inside its pod: a Service must reach it
        "api.port": "8080",
        "api.base_url": base_url,
        # Each pod has its own; only what is on a volume is shared.
        "dag_processor.dag_bundle_storage_path": "/opt/airflow/bundles",
        "kubernetes_executor.namespace": namespace,
        "kubernetes_executor.pod_template_file": "/opt/airflow/pod-template/pod_template.yaml",
        # What a task said is on the volume of logs: its pod tells nothing more, failed or not.
        "kubernetes_executor.delete_worker_pods": "True",
        "kubernetes_executor.delete_worker_pods_on_failure": "True",
        # The default of one a loop makes a fan-out of 16 wait three seconds for its last pod.
        "kubernetes_executor.worker_pods_creation_batch_size": "16",
        # A task waits while the namespace's quota is used up; by default it would fail at once.
        "kubernetes_executor.task_publish_max_retries": "-1",
        "logging.base_log_folder": LOGS,
        "logging.dag_processor_child_process_log_directory": "/opt/airflow/dag-processor-logs",
        # With a host the API server would first ask it for the log; all logs are on one volume.
        "core.hostname_callable": "builtins.str",
        "scheduler.scheduler_health_check_server_host": "0.0.0.0",  # noqa: S104 - for the probe
        "scheduler.scheduler_health_check_server_port": "8974",
        **settings.airflow,
    }
    return {
        **airflow_settings.environment_variables(values),
        **airflow_settings.runtime_variables(settings),
    }
