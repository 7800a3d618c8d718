"""A deferrable sensor: waiting without holding a worker.

Try it: `invoke dags.trigger morning_delivery --wait`, and `invoke logs triggerer` meanwhile.
"""

from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import WaitSensor
from airflow.sdk import dag, task


@dag(schedule=None, tags=["example", "deferrable"])
def morning_delivery():
    """Wait for the van, then unload it."""
    # A sensor that waits in a worker keeps a slot (on Kubernetes: a pod) busy doing nothing. A
    # deferrable one hands its question to the triggerer and goes; one triggerer holds thousands of
    # them in one process. Most sensors take `deferrable=True`. This one needs no worker afterwards
    # either: the triggerer ends the task.
    wait_for_van = WaitSensor(
        task_id="wait_for_van", time_to_wait=timedelta(seconds=2), deferrable=True
    )

    @task
    def unload() -> str:
        return "12 crates unloaded"

    wait_for_van >> unload()


morning_delivery()
