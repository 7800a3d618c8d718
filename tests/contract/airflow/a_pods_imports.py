"""Runs in Airflow's own Python: what a task's pod imports, and what is left for those who use it.

Prints a JSON object: `imported`, whether libcst was, and `source`, of a task without its decorator.
"""

from __future__ import annotations

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

from airflow.sdk.bases.decorator import remove_task_decorator  # noqa: E402 - imported above

answer = {"imported": imported, "source": remove_task_decorator(TASK, "@task.virtualenv")}
sys.stdout.write(json.dumps(answer))
