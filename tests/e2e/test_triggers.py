"""Triggers and deadline callbacks of the DAG folder run in the triggerer, as they are today."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.e2e.project import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Project

pytestmark = pytest.mark.e2e

OWN = """
from pathlib import Path
from airflow.triggers.base import BaseTrigger, TriggerEvent
from corner_shop.answers import ANSWER

class Own(BaseTrigger):
    def serialize(self):
        return ("corner_shop.own.Own", {{}})
    async def run(self):
        yield TriggerEvent("{word} " + ANSWER)

async def late(context, **_):
    Path({told!r}).write_text("{word} " + context["dag_run"]["dag_id"])
"""

ASKS = """
from datetime import timedelta
from airflow.sdk import AsyncCallback, BaseOperator, DeadlineAlert, DeadlineReference, dag
from airflow.triggers.base import BaseTrigger, TriggerEvent
from corner_shop.own import Own, late

class InTheDagFile(BaseTrigger):
    def serialize(self):
        return (type(self).__module__ + ".InTheDagFile", {{}})
    async def run(self):
        yield TriggerEvent("{word} here")

class Ask(BaseOperator):
    def __init__(self, ask, **more):
        super().__init__(**more)
        self.ask = ask
    def execute(self, context):
        self.defer(trigger=self.ask(), method_name="done")
    def done(self, context, event):
        return event

deadline = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=-1),
    callback=AsyncCallback(late),
)

@dag(schedule=None, deadline=deadline)
def asks():
    Ask(task_id="own", ask=Own)
    Ask(task_id="here", ask=InTheDagFile)
asks()
"""


def has(file: Path, text: str) -> bool:
    """Whether a file exists and has this text."""
    return file.exists() and file.read_text() == text


def test_a_trigger_and_a_deadline_callback_are_as_old_as_the_last_save(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    folder.write("corner_shop/answers.py", "ANSWER = 'yes'")
    for word, answer in (("one", "yes"), ("two", "no")):
        folder.write("corner_shop/answers.py", f"ANSWER = {answer!r}")
        folder.write("corner_shop/own.py", OWN.format(word=word, told=str(told)))
        settled = folder.save("asks.py", ASKS.format(word=word))
        assert settled.errors == {}

        run = environment.airflow.trigger("asks")
        ended = environment.airflow.wait("asks", run.run_id, timeout=PATIENCE)
        assert ended.state == "success"
        assert environment.airflow.xcom("asks", run.run_id, "own") == f"{word} {answer}"
        assert environment.airflow.xcom("asks", run.run_id, "here") == f"{word} here"
        wanted = f"{word} asks"
        eventually(partial(has, told, wanted), f"the deadline's callback writes {wanted!r}")
