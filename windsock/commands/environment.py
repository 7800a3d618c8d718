"""An environment: up, down, and what is to be seen of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from windsock.commands.arguments import LenientTask
from windsock.commands.command import AS_FOR_UP, TAKE_OVER, command, workspace
from windsock.commands.late import LateModule

if TYPE_CHECKING:
    from invoke import Context

    from windsock import doctor, flow
else:
    doctor = LateModule("windsock.doctor")
    flow = LateModule("windsock.flow")


@command(
    help={
        "target": "Where: local, kind, okteto, or auto (the default), which explains its choice.",
        "context": "Run on the cluster of this kube context; invoke.yaml must allow it.",
        "namespace": "Of the cluster.",
        "skip-unserved": "Go on without objects whose kind the cluster does not serve.",
        "take-over": "Take the sync over from somebody else who syncs to the namespace.",
        "dry-run": "Print what would be done, and why; change nothing.",
        "detach": "Leave everything running, saves included, and return.",
        "dags": "The DAG folder, here or in another repository.",
        "rebuild": "When requirements change meanwhile: auto, ask (the default) or never.",
        "replace": "Change what is up with other settings, without asking.",
    }
)
def up(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
    detach: bool = False,
    dags: str = "",
    take_over: bool = False,
    rebuild: str = "",
    replace: bool = False,
    dry_run: bool = False,
) -> int | None:
    """Bring up Airflow, watch the DAG folder, and tell what came of each save.

    Ctrl-C stops what this command started. Run it again and it attaches to what is already up.
    """
    work = workspace(
        c,
        kube_context=context,
        namespace=namespace,
        skip_unserved=skip_unserved,
        take_over=take_over,
        target=target,
        dags=dags,
        rebuild=rebuild,
    )
    return flow.up(work, detach=detach, dry_run=dry_run, replace=replace)


@command(
    help={
        "volumes": "Also remove the database, the logs and all other state.",
        "cluster": "Also delete the kind cluster, if windsock made it and nobody else uses it.",
        "take-over": TAKE_OVER,
    }
)
def down(
    context: Context, volumes: bool = False, cluster: bool = False, take_over: bool = False
) -> None:
    """Stop the environment."""
    work = workspace(context, take_over=take_over)
    flow.down(work, volumes=volumes, cluster=cluster)


@command(help={"json": "For scripts: one JSON document on stdout."})
def status(context: Context, json: bool = False) -> int:
    """Show the state of each component, of the sync and of the DAGs."""
    return flow.status(workspace(context), as_json=json)


@command(
    klass=LenientTask,
    positional=["component"],
    help={
        "component": "One of those that `invoke status` names; all when left out.",
        "follow": "Go on with new lines as they come.",
        "lines": "How many of the last lines to begin with.",
    },
)
def logs(context: Context, component: str = "", follow: bool = False, lines: int = 40) -> None:
    """Show what the components log."""
    flow.logs(workspace(context), component=component, follow=follow, lines=lines)


@command(
    klass=LenientTask,
    positional=["component"],
    help={"component": "One of those that `invoke status` names; all when left out."},
)
def restart(context: Context, component: str = "") -> None:
    """Restart one component, or all of them."""
    flow.restart(workspace(context), component=component)


@command(
    name="sync",
    help={
        **dict.fromkeys(
            AS_FOR_UP, "Sync into what others, say Tilt, deployed there; no `up` needed."
        ),
        "allow-empty": "Say that an emptied DAG folder is meant: sync its deletion.",
        "take-over": "Take the sync over from somebody else who syncs to the same namespace.",
    },
)
def sync_(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    allow_empty: bool = False,
    take_over: bool = False,
) -> int | None:
    """Attach to the sync of a running environment: a line for each save."""
    work = workspace(
        c, kube_context=context, namespace=namespace, target=target, take_over=take_over
    )
    if target or context:
        return flow.join(work)
    return flow.attach(work, allow_empty=allow_empty, take_over=take_over)


@command()
def shell(context: Context) -> int:
    """Open a shell in Airflow's environment; `invoke shell -- airflow info` runs one command."""
    # Invoke joins what follows `--` by blanks; a quoted word must stay one word.
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    return flow.shell(workspace(context), command=command)


@command(name="open")
def open_(context: Context) -> None:
    """Open Airflow's UI in the browser."""
    flow.open_ui(workspace(context))


@command(name="doctor", help={"json": "For scripts: one JSON document on stdout."})
def doctor_(context: Context, json: bool = False) -> int:
    """Check this machine and this project, and say what to do about each finding."""
    work = workspace(context).as_it_is_up()
    return doctor.run(work.settings, work.console, as_json=json)


@command(help={"json": "For scripts: one JSON document on stdout."})
def version(context: Context, json: bool = False) -> None:
    """Show the versions of windsock, Python and Airflow."""
    flow.version(workspace(context), as_json=json)
