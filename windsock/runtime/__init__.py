"""What runs inside Airflow's own processes. Imports nothing else of windsock."""
