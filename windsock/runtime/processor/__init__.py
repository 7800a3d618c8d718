"""Airflow's dag-processor, woken by events."""
