"""Airflow on Kubernetes: images, manifests, and the client of the cluster."""
