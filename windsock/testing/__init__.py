"""End-to-end tests of DAGs, as a pytest plugin."""
