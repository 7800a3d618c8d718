"""What the corner shop's DAGs share.

Airflow appends the DAG folder to `sys.path`, so `import corner_shop` works in every DAG file, on
every target. Appended means that an installed package of the same name wins: name a package like
this one after your business, never `common`, `utils` or `include`.
"""
