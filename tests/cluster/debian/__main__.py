"""A single-node Kubernetes from Debian's packages, for machines without an image registry.

python -m tests.cluster.debian up       bring it up; prints the path of its kubeconfig
python -m tests.cluster.debian build    only compile it, if that was not done yet
python -m tests.cluster.debian docker   docker and the stand-in images only
python -m tests.cluster.debian status   exit code 0 if it is up
python -m tests.cluster.debian down     stop and remove it
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.cluster.debian import cluster, places
from windsock.errors import WindsockError
from windsock.terminal.console import Console

INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Do what one command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.debian",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("up", "build", "docker", "status", "down"))
    command = parser.parse_args(arguments).command
    console = Console()
    # A closed terminal or a cancelled job is an interrupt: what was started is stopped.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    try:
        return _run(command, console)
    except WindsockError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.line("interrupted")
        return INTERRUPTED


def _run(command: str, console: Console) -> int:
    if command == "up":
        console.write(str(cluster.up(console.line)))
    elif command == "build":
        cluster.build(console.line)
    elif command == "docker":
        cluster.up_docker(console.line)
    elif command == "down":
        cluster.down(console.line)
    else:
        state = cluster.state()
        console.line(f"Kubernetes: {', '.join(state.parts) or 'nothing runs'}")
        console.line(f"docker: {'started by us' if state.docker else 'not started by us'}")
        if not state.ready:
            console.failure("Kubernetes is not up")
            return 3
        console.success("Kubernetes is up")
        console.write(str(places.KUBECONFIG))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
