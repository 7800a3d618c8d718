"""Bring an environment up, and take it down."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.flow.following import follow, show_dags, show_what_stands
from windsock.flow.rebuild import Rebuilder, in_background
from windsock.model import ENVIRONMENT_FILE
from windsock.sync_process.control import ControlClient
from windsock.sync_process.settings_file import import_with, remember_shell
from windsock.targets import choose, settings_record
from windsock.targets.folder import check_folders
from windsock.targets.plan import Action, run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windsock.flow.workspace import Workspace
    from windsock.model import Environment
    from windsock.targets.base import Target
    from windsock.targets.plan import PlannedStep
    from windsock.terminal.console import Console


def up(work: Workspace, *, detach: bool, dry_run: bool = False, replace: bool = False) -> int:
    """Bring everything up, then show what comes of each save until Ctrl-C.

    Args:
        work: The workspace.
        detach: Let everything run, and return.
        dry_run: Only print the plan.
        replace: Do not ask before settings are changed with which something runs.

    Returns:
        An exit code.

    Raises:
        ConfigurationError: Something runs with other settings, and nobody can be asked.
    """
    check_folders(work.settings)
    if dry_run:
        _show_plan(work)
        return 0
    target = work.target()
    rebuilder = Rebuilder(work, target)  # Made first: an edit while it comes up is one, too.
    environment = target.running()
    if environment is not None:
        import_settings(work, environment)
        # What runs is as these settings want it, though some may be other ones than its own.
        settings_record.save(work.settings, work.variables())
        work.console.success("already up")
        return _announce_and_follow(work, environment, rebuilder, detach=detach, started_here=False)
    if not _may_change(work, replace=replace):
        return 0
    # A target of its own: a long `up` may end on another sign-in, or on a cluster made anew.
    at_end = _goes_on if detach else lambda console: work.target().end(console)
    with brought_up(work, target, at_end=at_end) as environment:
        return _announce_and_follow(work, environment, rebuilder, detach=detach, started_here=True)


def _may_change(work: Workspace, *, replace: bool) -> bool:
    """Whether what runs may be changed to the settings of now, which are said."""
    differences = work.differences()
    variables = [f"variable {name} is another one" for name in work.changed_variables()]
    # Where nobody can be asked, a change of variables is taken and said: `.env` is to be edited.
    if not differences and not (variables and work.console.interactive):
        return True
    say_differences(work, [*differences, *variables])
    if replace:
        return True
    before = work.as_it_is_up().settings.dags
    same = f" --dags {shlex.quote(before)}" if before != work.settings.dags else ""
    if not work.console.interactive:
        raise ConfigurationError(
            "the environment is up with other settings, and nobody can be asked",
            "To change it: `invoke up --replace`. To leave it as it is, give the settings that it "
            f"was brought up with: `invoke up{same}`.",
        )
    if work.console.confirm("restart what these settings change? [y/N]"):
        return True
    work.console.line(f"left as it is; `invoke up{same}` with its settings follows the saves")
    return False


def say_differences(work: Workspace, differences: Sequence[str]) -> None:
    """Say which settings of what is up are other ones now."""
    work.console.warning("the environment is up with other settings:")
    for difference in differences:
        work.console.line(f"  {difference}")


def _show_plan(work: Workspace) -> None:
    """Print what `up` would do, and change nothing."""
    work.console.line(f"target: {choose.explain(work.settings)}")
    target = work.target()
    plan = [step.plan() for step in target.deploy()]
    is_up = all(step.action is Action.NONE for step in plan)
    if not is_up:
        plan = [*(step.plan() for step in target.prepare()), *plan]
    work.console.table([step.action, step.what, step.why, _duration(step)] for step in plan)
    if is_up:
        work.console.success("already up: `invoke up` only follows the saves")
    else:
        work.console.line("nothing was changed; `invoke up` does this")


def _duration(step: PlannedStep) -> str:
    if not step.seconds or step.action is Action.NONE:
        return ""
    return f"about {step.seconds:.0f} s"


def _announce_and_follow(
    work: Workspace,
    environment: Environment,
    rebuilder: Rebuilder,
    *,
    detach: bool,
    started_here: bool,
) -> int:
    """Say where everything is; unless detached, show the saves until Ctrl-C.

    Returns:
        An exit code.
    """
    try:
        if detach:  # Else `follow` tells it.
            show_what_stands(work, environment)
        _announce(work.console, environment, detach=detach)
        if detach:
            return 0
        return in_background(
            lambda left: follow(
                work,
                environment,
                greeting="  watching for saves; Ctrl-C to stop",
                stops=started_here,
                left=left,
            ),
            rebuilder.look,
        )
    except KeyboardInterrupt:
        work.console.line()
        if not started_here:
            work.console.line("left running; `invoke down` stops it")
        return 0


@contextlib.contextmanager
def brought_up(
    work: Workspace, target: Target, *, at_end: Callable[[Console], None]
) -> Iterator[Environment]:
    """Bring the environment up, and give it to the block.

    An interrupt or a failure on the way stops what was started. If the steps of `prepare` fail,
    an environment that was up before goes on.

    Args:
        work: The workspace.
        target: Of the environment.
        at_end: Called at the end of the block, however it ends.
    """
    console = work.console
    started = time.monotonic()
    console.line(f"target: {choose.explain(work.settings)}")
    described = work.settings.state_folder / ENVIRONMENT_FILE
    was_up = described.exists()

    def give_up_what_is_new(console: Console) -> None:
        # `prepare` stops it, and removes this file, if it makes the kind cluster anew.
        if was_up and described.exists():
            console.warning("what ran before goes on as it was")
        else:
            target.give_up(console)

    with contextlib.ExitStack() as lock:
        lock.enter_context(target.locked())
        stop: Callable[[Console], None] = give_up_what_is_new
        try:
            run_steps(target.prepare(), console)
            stop = target.give_up
            run_steps(target.deploy(), console)
            environment = target.wait(console)
            import_settings(work, environment)
            settings_record.save(work.settings, work.variables())
            environment.save(work.settings.state_folder)
            lock.close()  # From here on others use it, and may change it.
            show_dags(work, environment)
            console.success(f"up in {time.monotonic() - started:.1f} s")
            stop = at_end
            yield environment
        finally:
            stop(console)


def _goes_on(console: Console) -> None:
    """Stop nothing."""


def bring_up(work: Workspace, target: Target) -> Environment:
    """Bring the environment up; it goes on."""
    with brought_up(work, target, at_end=_goes_on) as environment:
        return environment


def deploy(work: Workspace) -> None:
    """Bring the environment up in its cluster until the DAGs are parsed; the sync ends then.

    Raises:
        DeadlineExceeded: Airflow did not parse the DAG folder in time.
    """
    check_folders(work.settings)
    target = choose.cluster_target(work.settings)
    with brought_up(work, target, at_end=target.leave) as environment:
        show_what_stands(work, environment)
        ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)


def join(work: Workspace) -> int:
    """Sync into what others deployed, and show what comes of each save, until Ctrl-C.

    Returns:
        An exit code.
    """
    check_folders(work.settings)
    target = choose.cluster_target(work.settings, deployed_by_others=True)
    # Of one that was killed: who waits for this one must not take it for up.
    (work.settings.state_folder / ENVIRONMENT_FILE).unlink(missing_ok=True)
    greeting = "watching for saves; Ctrl-C ends the sync and nothing else"
    with brought_up(work, target, at_end=target.end) as environment:
        try:
            return follow(work, environment, greeting=greeting, stops=True)
        except KeyboardInterrupt:
            work.console.line()
            return 0


def secret(work: Workspace) -> None:
    """Make the namespace, its Secret and that of `.env`, for what others deploy."""
    from windsock.targets.cluster.target import ensure_secret, ensure_variables  # noqa: PLC0415 - heavy

    target = choose.cluster_target(work.settings)
    with target.locked(), work.console.step("namespace and Secret"):
        ensure_secret(target.parts)
        ensure_variables(target.parts, work.console)


def import_settings(work: Workspace, environment: Environment) -> None:
    """Import connections, variables and pools, if their file changed since the last time."""
    settings = work.settings
    path, env_file = settings.path(settings.airflow_settings), settings.path(settings.env_file)
    changes = import_with(path, environment, settings.state_folder, env_file, os.environ)
    remember_shell(settings.state_folder, os.environ)
    if changes is None:
        return
    if names := changes.names():
        # Airflow may have parsed DAG files before that read them.
        control = ControlClient(environment.control_socket)
        control.settings_changed(names, timeout=settings.up_timeout)
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
