from __future__ import annotations

import subprocess
import sys

import psutil

SESSION = """
import os, signal, subprocess, sys
from windsock.runtime.leftovers import end_leftovers

def member(*, group):
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, process_group=group, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process

killed = member(group=0)
left = member(group=killed.pid)
killed.kill()
killed.wait()
leader = member(group=0)
fork = member(group=leader.pid)

end_leftovers()

print(left.wait(10), leader.poll(), fork.poll())
for process in (leader, fork):
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
        assert done.stdout.split() == ["-9", "None", "None"]
        assert psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()
        stranger.wait()
