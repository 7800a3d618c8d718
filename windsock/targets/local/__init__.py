"""The local target: Airflow's own processes and a PostgreSQL on this machine, no Docker at all."""
