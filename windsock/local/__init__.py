"""Run Airflow's own processes on this machine: venv, PostgreSQL, supervisor."""
