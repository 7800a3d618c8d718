"""windsock: a live dev environment for Apache Airflow DAG authors."""

__version__ = "0.1.0"
