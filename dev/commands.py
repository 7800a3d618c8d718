"""The commands of those who build windsock: benchmarks, pictures, and a test bed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.commands.command import AS_FOR_UP, command, workspace
from windsock.commands.late import LateModule
from windsock.commands.namespace import group

if TYPE_CHECKING:
    from invoke import Collection, Context

    from dev import pictures, troubleshooting
    from dev.benchmarks import busy, kube, large, reload, sync, up
    from tests.cluster.debian import cluster
else:
    busy = LateModule("dev.benchmarks.busy")
    kube = LateModule("dev.benchmarks.kube")
    large = LateModule("dev.benchmarks.large")
    reload = LateModule("dev.benchmarks.reload")
    sync = LateModule("dev.benchmarks.sync")
    up = LateModule("dev.benchmarks.up")
    pictures = LateModule("dev.pictures")
    troubleshooting = LateModule("dev.troubleshooting")
    cluster = LateModule("tests.cluster.debian.cluster")


def add_to(commands: Collection) -> None:
    """Add these commands to windsock's own."""
    commands.add_collection(
        group("cluster", **{"debian-up": cluster_debian_up, "debian-down": cluster_debian_down})
    )
    commands.add_collection(
        group(
            "bench",
            busy=bench_busy,
            kube=bench_kube,
            reload=bench_reload,
            sync=bench_sync,
            up=bench_up,
        )
    )
    commands.add_collection(
        group("docs", pictures=docs_pictures, troubleshooting=docs_troubleshooting)
    )


@command()
def cluster_debian_up(context: Context) -> None:
    """Bring up a test bed: Kubernetes built from Debian's packages, for lack of a registry."""
    console = workspace(context).console
    kubeconfig = cluster.up(console.line)
    console.success(f"export KUBECONFIG={kubeconfig}, then `invoke up --context debian`")


@command()
def cluster_debian_down(context: Context) -> None:
    """Stop the test bed."""
    console = workspace(context).console
    cluster.down(console.line)


@command(
    help={
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each event of windsock is measured.",
        "peers": "Also measure stock and tuned Airflow in the same run.",
        "files": "Instead measure a folder of so many DAG files, and stock Airflow.",
    }
)
def bench_reload(
    context: Context, json: bool = False, rounds: int = 20, peers: bool = True, files: int = 0
) -> int:
    """Measure from save to parsed, and from trigger to success, and stock and tuned Airflow."""
    if files:
        work = workspace(context)
        return large.run(work, files=files, as_json=json, rounds=rounds, peers=peers)
    return reload.run(workspace(context), as_json=json, rounds=rounds, peers=peers)


@command(
    help={
        "json": "For scripts: one JSON document on stdout.",
        "spinning": "How many processes keep the cores busy.",
    }
)
def bench_busy(context: Context, json: bool = False, spinning: int = 8) -> int:
    """Measure `up` and `test` on a machine whose cores are all busy."""
    return busy.run(workspace(context), as_json=json, spinning=spinning)


@command(
    help={
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each kind of start is measured.",
    }
)
def bench_up(context: Context, json: bool = False, rounds: int = 3) -> int:
    """Measure bringing the environment up: first, warm, and when it is already up."""
    return up.run(workspace(context), as_json=json, rounds=rounds)


@command(
    help={
        "context": AS_FOR_UP["context"],
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often a run of one task is measured.",
        "peer": "Also measure a plain Airflow on the same cluster (about 4 minutes).",
    }
)
def bench_kube(
    c: Context,
    context: str = "",
    json: bool = False,
    rounds: int = 15,
    peer: bool = True,
) -> int:
    """Measure `up` on a cluster and a task in a pod, and a plain Airflow on Kubernetes.

    Each is in another namespace, which is removed afterwards.
    """
    work = workspace(c, kube_context=context)
    return kube.run(work, as_json=json, rounds=rounds, peer=peer)


@command(
    help={
        **AS_FOR_UP,
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each event is measured.",
    }
)
def bench_sync(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    json: bool = False,
    rounds: int = 20,
) -> int:
    """Measure from save to a pod of a cluster, and kubectl; in another namespace."""
    work = workspace(c, kube_context=context, namespace=namespace, target=target)
    return sync.run(work, as_json=json, rounds=rounds)


@command()
def docs_pictures(context: Context) -> None:
    """Draw the pictures of the documentation: a real session, and the plots of the numbers.

    Brings an environment up in a temporary folder, which takes a minute or two.
    """
    console = workspace(context).console
    for path in pictures.draw():
        console.success(str(path))


@command()
def docs_troubleshooting(context: Context) -> None:
    """Make docs/troubleshooting.md of the errors in the code."""
    workspace(context).console.success(str(troubleshooting.write()))
