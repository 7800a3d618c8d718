"""Talk to a running Airflow: REST, connections, variables and pools."""
