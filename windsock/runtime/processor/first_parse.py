"""Parse a small DAG in the dag-processor itself, before it forks the first parser.

The first parse of a process fills Airflow's caches: the JSON schema of a DAG, and many an
`isinstance`. A parser lives for one file, so each would fill them anew, for a third of the 27 ms of
CPU that a small file takes. Its forks inherit them.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path

SMALL_DAG = """\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule="@daily", tags=["small"])
def small():
    @task
    def first():
        return 1

    @task
    def second(number):
        return number

    second(first()) >> EmptyOperator(task_id="third")


small()
"""
"""What most DAG files have: the decorators, an operator, a dependency, a schedule."""


def parse_small_dag() -> None:
    """Parse and serialize a small DAG; an Airflow that has moved something does without."""
    logging.disable(logging.INFO)  # In the log this DAG would look like one of the user's.
    with (
        contextlib.suppress(ImportError, AttributeError),
        tempfile.TemporaryDirectory(prefix="windsock-") as folder,
    ):
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - only Airflow has it
        from airflow.serialization.serialized_objects import (  # noqa: PLC0415 - as above
            DagSerialization,
        )

        file = Path(folder, "small.py")
        file.write_text(SMALL_DAG, encoding="utf-8")
        for dag in DagBag(dag_folder=str(file), load_op_links=False).dags.values():
            DagSerialization.to_dict(dag)
    logging.disable(logging.NOTSET)
