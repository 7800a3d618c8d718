"""Bring an environment up, and take it down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.flow.following import follow, show_dags
from windsock.flow.rebuild import Rebuilder, in_background
from windsock.model import ENVIRONMENT_FILE
from windsock.sync_process.control import ControlClient
from windsock.targets import choose
from windsock.targets.plan import Action, nothing_to_do

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.flow.workspace import Workspace
    from windsock.model import Environment
    from windsock.targets.base import Target
    from windsock.targets.plan import PlannedStep
    from windsock.terminal.console import Console


@dataclass
class Ending:
    """What a command must do when it ends, however that happens.

    Attributes:
        how: Stops what the command has started; None if there is nothing to stop.
    """

    how: Callable[[Console], None] | None = None

    def run(self, console: Console) -> None:
        """Do it, once."""
        how, self.how = self.how, None
        if how is not None:
            how(console)


def _show_plan(work: Workspace) -> int:
    """Print what `up` would do, and change nothing; returns an exit code."""
    work.console.line(f"target: {choose.explain(work.settings)}")
    steps = list(work.target(read_only=True).plan())
    work.console.table(
        [
            step.action,
            step.what,
            step.why,
            _duration(step),
        ]
        for step in steps
    )
    if nothing_to_do(steps):
        work.console.success("already up: `invoke up` only follows the saves")
    else:
        work.console.line("nothing was changed; `invoke up` does this")
    return 0


def _duration(step: PlannedStep) -> str:
    if not step.seconds or step.action is Action.NONE:
        return ""
    return f"about {step.seconds:.0f} s"


def up(work: Workspace, *, detach: bool, dry_run: bool = False) -> int:
    """Bring everything up, then tell what comes of each save until Ctrl-C.

    Args:
        work: The workspace.
        detach: Leave everything running, and return.
        dry_run: Only print the plan.

    Returns:
        An exit code.
    """
    if dry_run:
        return _show_plan(work)
    console = work.console
    target = work.target()
    later = work.once_ours()
    # Made first: an edit while it comes up is one, too.
    rebuilder = Rebuilder(later, target)
    ending = Ending()
    try:
        environment = target.running()
        started_here = environment is None
        if environment is None:
            environment = bring_up(work, target, ending)
        else:
            import_settings(work, environment)
            console.success("already up")
        if detach:
            ending.how = None
            _announce(console, environment, detach=True)
            return 0
        if started_here:
            ending.how = lambda console: later.target().end(console)
        return _watch(work, environment, rebuilder, stops=started_here)
    finally:
        ending.run(console)


def _watch(work: Workspace, environment: Environment, rebuilder: Rebuilder, *, stops: bool) -> int:
    """Tell what comes of each save until Ctrl-C; returns an exit code."""
    try:
        _announce(work.console, environment, detach=False)
        return in_background(
            lambda left: follow(
                work,
                environment,
                greeting="  watching for saves; Ctrl-C to stop",
                stops=stops,
                left=left,
            ),
            rebuilder.look,
        )
    except KeyboardInterrupt:
        work.console.line()
        if not stops:
            work.console.line("left running; `invoke down` stops it")
        return 0


def deploy(work: Workspace) -> None:
    """Bring the environment up in its cluster until the DAGs are parsed; the sync ends then.

    Raises:
        DeadlineExceeded: Airflow did not parse the DAG folder in time.
    """
    target = choose.cluster_target(work.settings)
    ending = Ending()
    try:
        environment = bring_up(work, ending=ending)
        ending.how = target.leave
        ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)
    finally:
        ending.run(work.console)


def join(work: Workspace) -> int:
    """Sync into what others deployed, and tell what comes of each save, until Ctrl-C.

    Returns:
        An exit code.
    """
    target = choose.cluster_target(work.settings, deployed_by_others=True)
    # Of one that was killed: who waits for this one must not take it for up.
    (work.settings.state_folder / ENVIRONMENT_FILE).unlink(missing_ok=True)
    greeting = "watching for saves; Ctrl-C ends the sync and nothing else"
    ending = Ending()
    try:
        environment = bring_up(work, target, ending)
        ending.how = target.end
        try:
            return follow(work, environment, greeting=greeting, stops=True)
        except KeyboardInterrupt:
            work.console.line()
            return 0
    finally:
        ending.run(work.console)


def secret(work: Workspace) -> None:
    """Make the namespace and its Secret, for what others deploy."""
    from windsock.targets.cluster.target import ensure_secret  # noqa: PLC0415 - heavy

    target = choose.cluster_target(work.settings)
    with target.bringing_up(), work.console.step("namespace and Secret"):
        ensure_secret(target.parts)


def bring_up(
    work: Workspace, target: Target | None = None, ending: Ending | None = None
) -> Environment:
    """Start what is missing and wait until all of it is healthy.

    An interrupt or a failure on the way stops again what runs, so that nothing is left half up;
    but an environment that is up already goes on if what it shall become cannot be built.

    Args:
        work: The workspace.
        target: Its target, if there is one already.
        ending: Of the command; gets what is to be done if it ends right after.
    """
    target, ending = target or work.target(), ending or Ending()
    started = time.monotonic()
    work.console.line(f"target: {choose.explain(work.settings)}")
    described = work.settings.state_folder / ENVIRONMENT_FILE
    goes_on = described.exists()
    with target.bringing_up():
        try:
            target.prepare(work.console)
            goes_on = False
            ending.how = target.give_up
            target.deploy(work.console)
            environment = target.wait(work.console)
            import_settings(work, environment)
            environment.save(work.settings.state_folder)  # From here on others use it.
            show_dags(work, environment)
        except BaseException:
            if goes_on and described.exists():  # It is stopped where its cluster was made anew.
                work.console.warning("what ran before goes on as it was")
            else:
                ending.how = target.give_up
                ending.run(work.console)
            raise
    work.console.success(f"up in {time.monotonic() - started:.1f} s")
    return environment


def import_settings(work: Workspace, environment: Environment) -> None:
    """Import connections, variables and pools, if their file changed since the last time."""
    from windsock.airflow.settings_import import import_settings as run  # noqa: PLC0415 - httpx, yaml

    settings = work.settings
    path = settings.path(settings.airflow_settings)
    changes = run(path, environment, state_folder=settings.state_folder)
    if changes is not None:
        work.console.success(f"settings from {path.name}: {changes.summary() or 'nothing in it'}")


def _announce(console: Console, environment: Environment, *, detach: bool) -> None:
    console.line()
    console.line(f"  Airflow {environment.airflow}   {environment.url}", "heading")
    console.line(f"  user {environment.user}, password in {environment.password_file}")
    console.line(f"  DAGs in {environment.dags_folder}")
    console.line()
    if detach:
        console.line("  saves are synced in the background: `invoke sync` shows them,")
        console.line("  `invoke test` runs the DAG tests, `invoke down` stops everything")


def down(work: Workspace, *, volumes: bool, cluster: bool = False) -> None:
    """Stop everything; with `cluster` also delete the kind cluster."""
    if not cluster:
        work.target().down(work.console, volumes=volumes)
        return
    from windsock.targets.cluster.target import delete_cluster  # noqa: PLC0415 - heavy

    target = choose.cluster_target(work.settings)
    delete_cluster(target.parts, work.console)
    target.down(work.console, volumes=True)  # Its database went with the cluster.
