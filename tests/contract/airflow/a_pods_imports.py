"""Runs in Airflow's own Python: what a task's pod imports, and what is left for those who use it.

Prints a JSON object: `imported`, whether libcst was; `source`, of a task without its decorator; and
`module`, a part of libcst that a plugin imports while Airflow is imported.
"""

from __future__ import annotations

import importlib
import json
import sys

from windsock.runtime.importing import import_all, libcst_on_first_use
from windsock.runtime.worker import IMPORTS, PROGRAM

TASK = """\
@task.virtualenv(requirements=["numpy"])
@another
def load():
    return 1
"""

with libcst_on_first_use():
    import_all(PROGRAM, IMPORTS)
imported = "libcst" in sys.modules

with libcst_on_first_use():
    matchers = importlib.import_module("libcst.matchers")

from airflow.sdk.bases.decorator import remove_task_decorator  # noqa: E402 - imported above

answer = {
    "imported": imported,
    "source": remove_task_decorator(TASK, "@task.virtualenv"),
    "module": matchers.__name__,
}
sys.stdout.write(json.dumps(answer))
