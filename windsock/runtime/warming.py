"""Do once, before the forks, what each parser would otherwise do anew.

A parser is a fork of the dag-processor that lives for one file. Of the 36 ms of CPU that a small
DAG file took, a third went into what is the same in every parser: pydantic's validators of the
messages, the discovery of a remote log, the first use of the JSON schema and of many an
`isinstance` (25 ms are left; measured with Airflow 3.3.2). Here that is done in the dag-processor
itself, by parsing a small DAG of our own; its forks inherit what came of it.

It only saves time: where this Airflow has moved something, each parser does it itself again.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
from pathlib import Path
from typing import Any

SMALL_DAG = """\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task


@dag(schedule="@daily", tags=["warming"])
def warming():
    @task
    def first():
        return 1

    @task
    def second(number):
        return number

    second(first()) >> EmptyOperator(task_id="third")


warming()
"""
"""What most DAG files have: the decorators, an operator, a dependency, a schedule."""


class Remembered:
    """Stands for pydantic's `TypeAdapter` and makes each adapter only once.

    Args:
        adapter: The class; it takes a type. The types are those of Airflow's modules, which stay.
    """

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self._made: dict[int, tuple[Any, Any]] = {}

    def __getitem__(self, _: Any) -> Remembered:
        """`TypeAdapter[X](X)`: what stands in brackets is for type checkers."""
        return self

    def __call__(self, wanted: Any) -> Any:
        """The adapter of a type."""
        if id(wanted) not in self._made:
            # With the type, so that no other one gets its id.
            self._made[id(wanted)] = (wanted, self._adapter(wanted))
        return self._made[id(wanted)][1]


def warm_up() -> None:
    """Get this process ready to fork parsers."""
    gc.disable()
    try:
        for prepare in (_remember_adapters, _find_remote_log, _parse_small_dag):
            with contextlib.suppress(ImportError, AttributeError):
                prepare()
    finally:
        gc.freeze()  # The forks share it for good.
        gc.enable()


def _remember_adapters() -> None:
    from airflow.dag_processing import processor  # noqa: PLC0415 - only Airflow has it
    from airflow.sdk.execution_time import comms  # noqa: PLC0415 - as above

    for module in (processor, comms):
        module.TypeAdapter = Remembered(module.TypeAdapter)
    # As `_parse_file_entrypoint` and `CommsDecoder` ask for them.
    processor.TypeAdapter(processor.ToDagProcessor)
    comms.TypeAdapter(comms.ToTask)


def _find_remote_log() -> None:
    from airflow.sdk.log import load_remote_log_handler  # noqa: PLC0415 - only Airflow has it

    load_remote_log_handler()


def _parse_small_dag() -> None:
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - only Airflow has it
    from airflow.serialization.serialized_objects import DagSerialization  # noqa: PLC0415 - as above

    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # Nobody wants to hear of a DAG that nobody wrote.
    try:
        with tempfile.TemporaryDirectory(prefix="windsock-warming-") as folder:
            file = Path(folder, "warming.py")
            file.write_text(SMALL_DAG, encoding="utf-8")
            for dag in DagBag(dag_folder=str(file), load_op_links=False).dags.values():
                DagSerialization.to_dict(dag)
    finally:
        logging.disable(before)
