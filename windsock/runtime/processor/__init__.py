"""The dag-processor: Airflow's own, woken by events.

The private parts of Airflow that windsock needs are used in this package, and in
`windsock.runtime.child_end`. They are:

- of `airflow.dag_processing.manager.DagFileProcessorManager`: the methods in `manager.SEAMS`, and
  `_dag_bundles`, `_bundle_versions`, `_force_refresh_bundles`, `_file_queue`, `_file_stats`,
  `_processors`, `_parallelism` and `_callback_to_execute`;
- of `airflow.dag_processing.processor`: `_parse_file` and `_parse_file_entrypoint` (`parser`);
- of a parser's process: `_exit_code` and `_process` (`manager`);
- of `airflow.sdk.execution_time.supervisor.ActivitySubprocess`: `_on_child_started` (`child_end`).

They were read in Airflow 3.3.2.
"""
