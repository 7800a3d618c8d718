from __future__ import annotations

import subprocess
import sys

import psutil

SESSION = """
import os, signal, subprocess, sys
from windsock.runtime.leftovers import end_leftovers

def member(*title, group):
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *title]
    process = subprocess.Popen(command, process_group=group, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process

killed = member(group=0)
left = member("windsock.runtime.start", group=killed.pid)
worker = member("airflow worker -- LocalExecutor: <idle>", group=killed.pid)
of_a_task = member("airflow worker -- 0199", group=killed.pid)
server = member("serve", group=killed.pid)
killed.kill()
killed.wait()
leader = member(group=0)
fork = member("windsock.runtime.start", group=leader.pid)

end_leftovers()

living = (leader, fork, of_a_task, server)
print(left.wait(10), worker.wait(10), *(process.poll() for process in living))
for process in living:
    process.kill()
    process.wait()
"""


def test_only_the_forks_of_a_component_that_was_killed_are_ended() -> None:
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", SESSION],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            start_new_session=True,
        )
        assert done.stdout.split() == ["-9", "-9", "None", "None", "None", "None"]
        assert psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()
        stranger.wait()
