"""The targets of a cluster: `kind`, and any context that is allowed.

Airflow runs in the cluster. The sync and the forwarded port run on this machine, under the same
supervisor as the processes of the local target.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from windsock.airflow.health import GLANCE_SECONDS
from windsock.cluster.api.failures import ClusterUnreachable
from windsock.cluster.manifests import apply, inventory, removal, secrets
from windsock.cluster.manifests import render as manifests
from windsock.cluster.rollout import follow as rollout
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.model import Environment
from windsock.sync.protocol import StoreBusy
from windsock.targets.cluster import processes
from windsock.targets.folder import remove_state
from windsock.targets.location import Location
from windsock.targets.plan import Action, PlannedStep, UpStep, nothing_to_do
from windsock.targets.this_machine import NOT_RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from windsock.targets.cluster.parts import Parts
    from windsock.terminal.console import Console

KIND_SECONDS = 60.0
BUILD_SECONDS = 180.0
ROLLOUT_SECONDS = 60.0
"""About how long a new cluster, new images and a rollout take."""


class ClusterTarget:
    """Brings an environment up in a cluster, and takes it down."""

    def __init__(self, parts: Parts) -> None:
        self.name = parts.location.target
        self.parts = parts

    def running(self) -> Environment | None:
        """The environment when all of it is up as the settings want it, else None."""
        parts = self.parts
        if not parts.was_up:
            return None
        parts.images.pin()
        if not parts.supervisor.alive() or not nothing_to_do(self.deploy()):
            return None
        parts.lease.use_take_over()
        return Environment.load(parts.layout.state)

    def for_rebuild(self) -> Self:
        """A target of the images that the files describe now, which takes nothing over."""
        cluster = dataclasses.replace(self.parts.settings.cluster, take_over=False)
        settings = dataclasses.replace(self.parts.settings, cluster=cluster)
        return type(self)(dataclasses.replace(self.parts, settings=settings))

    def prepare(self) -> Sequence[UpStep]:
        """Reach the cluster, see that it serves all kinds, and get the images to it."""
        return [
            UpStep(plan=self._planned_cluster, run=self._reach_cluster),
            UpStep(plan=self._planned_images, run=self._prepare_images),
        ]

    def deploy(self) -> Sequence[UpStep]:
        """Apply what changed, and start the sync and the forwarded port."""
        return [
            UpStep(plan=self._planned_objects, run=self.apply_objects),
            UpStep(plan=self._planned_processes, run=self._start_processes),
        ]

    def _planned_objects(self) -> PlannedStep:
        """Whether objects must be applied: we or somebody else may have changed them."""
        parts = self.parts
        what = f"objects in {parts.location}"
        if parts.applied.by_others():
            return PlannedStep(what=what, action=Action.NONE, why="others apply them")
        objects = parts.objects()
        action = parts.applied.action(objects)
        why = "there is no record that windsock applied them"
        if action is Action.CHANGE:
            why = "settings, manifests or images have changed; `invoke diff` shows how"
        elif action is Action.NONE:
            action, why = self._planned_settings(objects)
        return PlannedStep(what=what, action=action, why=why, seconds=ROLLOUT_SECONDS)

    def _planned_settings(self, objects: list[dict[str, Any]]) -> tuple[Action, str]:
        """Whether the settings in the cluster are still ours: they name our port and our folder."""
        parts = self.parts
        try:
            if apply.is_applied(parts.cluster, manifests.settings_of(objects)):
                return Action.NONE, ""
        except (ClusterUnreachable, ConfigurationError):
            if not parts.is_kind:
                raise
            parts.disconnect()  # Somebody may have deleted the cluster; `prepare` makes another.
            return Action.MAKE, "the cluster does not answer"
        return Action.CHANGE, "somebody else has changed them"

    def _planned_cluster(self) -> PlannedStep:
        parts = self.parts
        if not parts.is_kind:
            return PlannedStep(what=f"cluster {parts.location.context}", action=Action.NONE)
        exists = parts.kind.exists()
        return PlannedStep(
            what=f"kind cluster {parts.kind.name}",
            action=Action.NONE if exists else Action.MAKE,
            why="" if exists else "there is none",
            seconds=KIND_SECONDS,
        )

    def _planned_images(self) -> PlannedStep:
        missing = self.parts.images.missing()
        return PlannedStep(
            what="images",
            action=Action.MAKE if missing else Action.NONE,
            why=f"Docker does not have {', '.join(missing)}" if missing else "",
            seconds=BUILD_SECONDS,
        )

    def _planned_processes(self) -> PlannedStep:
        parts = self.parts
        names = ", ".join(processes.NAMES)
        if not parts.was_up or not parts.supervisor.alive():
            return PlannedStep(what=names, action=Action.START, why=NOT_RUNNING)
        step = parts.planned_processes(processes.programs(parts))
        if step.action is not Action.NONE:
            return step
        health = processes.health(
            parts, Environment.load(parts.layout.state), seconds=GLANCE_SECONDS
        )
        if bad := ", ".join(name for name, good in health.items() if not good):
            return PlannedStep(what=bad, action=Action.START, why="not healthy: waited for")
        return step

    def locked(self) -> AbstractContextManager[None]:
        """Lock the state folder, and write down where the environment is."""
        return self.parts.locked()

    def _reach_cluster(self, console: Console) -> None:
        parts = self.parts
        if parts.applied.by_others():
            raise EnvironmentFailure(
                f"others deployed what is in {parts.location}, and windsock only syncs to it",
                "Is it just being updated? Try again in a moment, or bring it up as it was brought "
                "up (`tilt up`). To have windsock deploy there: `invoke down` first.",
            )
        with console.step("cluster") as step:
            if parts.is_kind and parts.kind.ensure(step.progress):
                processes.stop(parts)  # They talk to a cluster that is gone.
            step.detail = f"Kubernetes {parts.cluster.version()}, {parts.location}"
            # An error comes before the images are built.
            inventory.only_served(
                parts.cluster,
                manifests.render(parts.settings.project, parts.overlay),
                skip_unserved=parts.settings.cluster.skip_unserved,
            )

    def _prepare_images(self, console: Console) -> None:
        self.parts.images.prepare(console)

    def apply_objects(self, console: Console) -> None:
        """Apply what changed, and wait until it is rolled out."""
        parts = self.parts
        parts.remember_port()  # The objects name it.
        if parts.port.reason:
            console.warning(f"port {parts.port.reason}: using {parts.port.port}")
        with contextlib.ExitStack() as stack:
            with console.step("applied") as step:
                ensure_secret(parts)
                stack.enter_context(parts.lease.for_change())
                objects = parts.objects()
                own = {*manifests.settings_of(objects)["data"], *manifests.variables_of(objects)}
                parts.warn_of_ignored_variables(console, own)
                ensure_variables(parts, console)
                parts.applied.clear()
                skip_unserved = parts.settings.cluster.skip_unserved
                done = apply.apply(
                    parts.cluster, objects, progress=step.progress, skip_unserved=skip_unserved
                )
                step.detail = str(done)
            with console.step("rolled out") as step:
                rollout.wait(
                    parts.cluster,
                    objects,
                    progress=step.progress,
                    timeout=parts.settings.up_timeout,
                )
        parts.applied.save(objects)

    def _start_processes(self, console: Console) -> None:
        del console  # `wait` shows what comes of it.
        self.parts.remember_port()  # Also where others apply the objects.
        self.parts.supervisor.apply(processes.programs(self.parts))
        self.parts.supervisor.start(*processes.NAMES)

    def wait(self, console: Console) -> Environment:
        """Wait until Airflow is healthy and the sync is connected."""
        parts = self.parts
        environment = parts.describe(url=parts.url)
        with console.step("Airflow") as step:
            processes.wait_healthy(parts, environment, step.progress)
            step.detail = f"{environment.airflow} on {environment.url}"
        return environment

    def sources(self) -> Sequence[Path]:
        """The files of the project that the images are built of."""
        return [*self.parts.images.sources(), self.parts.env_file]

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done when these files have changed; empty if nothing."""
        restart = "Airflow must be restarted" if self.parts.env_file in changed else ""
        return self.parts.images.meaning(changed) or restart

    def give_up(self, console: Console) -> None:
        """Stop what runs on this machine; what was applied stays, so that it can be looked at."""
        processes.stop(self.parts)
        self.parts.lease.release()
        console.line(f"what was applied stays in {self.parts.location}; `invoke down` removes it")

    def leave(self, console: Console) -> None:
        """Stop what runs on this machine; what is in the cluster goes on."""
        processes.stop(self.parts)
        console.line(f"left running in {self.parts.location}")

    def end(self, console: Console) -> None:
        """Take down what `up` or `ci` brought up, but nothing of others: no take-over."""
        self._take_down(console, volumes=False, take_over=False)

    def down(self, console: Console, *, volumes: bool) -> None:
        """Stop everything and remove it from the cluster; with `volumes` also what it stored."""
        self._take_down(console, volumes=volumes, take_over=True)

    def _take_down(self, console: Console, *, volumes: bool, take_over: bool) -> None:
        parts = self.parts
        with console.step("stopped") as step:
            processes.stop(parts)
            if not parts.is_kind or parts.kind.exists():
                if not take_over:
                    parts.lease.use_take_over()
                step.detail = _remove(parts, volumes=volumes, progress=step.progress)
        Location.remove(parts.layout.state)
        if volumes:
            remove_state(parts.layout, console)


def ensure_secret(parts: Parts) -> None:
    """Make the namespace and its Secret, or copy the passwords that the Secret has."""
    parts.cluster.ensure_namespace()
    secrets.ensure(parts.cluster, parts.layout.secrets)


def ensure_variables(parts: Parts, console: Console) -> None:
    """Make the Secret of the project's variables, and name those that have changed."""
    if names := secrets.ensure_variables(parts.cluster, parts.project_variables):
        console.line(f"variables changed: {', '.join(names)}; Airflow restarts")


def _remove(parts: Parts, *, volumes: bool, progress: Callable[[str], None]) -> str:
    """Remove the objects, unless somebody else syncs to them; returns the detail of the step."""
    try:
        with parts.lease.for_removal() as check:

            def report(text: str) -> None:
                check()
                progress(text)

            hidden = removal.delete_all(parts.cluster, volumes=volumes, progress=report)
    except StoreBusy as busy:
        return (
            f"here; {parts.location} stays: {busy.message} "
            "(`invoke down --take-over` removes it all the same)"
        )
    return f"all but any {' or '.join(hidden)}, which this account may not list" * bool(hidden)


def delete_cluster(parts: Parts, console: Console) -> None:
    """Delete the kind cluster and its registry.

    Raises:
        ConfigurationError: windsock did not make the cluster, or other environments are in it.
        EnvironmentFailure: Somebody else syncs to the namespace.
    """
    if not parts.is_kind:
        raise ConfigurationError(
            f"windsock did not make the cluster of {parts.location}",
            "`invoke down --volumes` removes everything that windsock made in it.",
        )
    namespace = parts.location.namespace
    with console.step(f"deleted the kind cluster {parts.kind.name}"):
        with contextlib.ExitStack() as stack:
            if parts.kind.deletable(namespace=namespace):
                try:
                    stack.enter_context(parts.lease.for_removal())
                except StoreBusy as busy:
                    raise EnvironmentFailure(
                        f"{busy.message} (namespace {namespace})",
                        "Ask them; `invoke down --cluster --take-over` deletes the cluster all "
                        "the same.",
                    ) from None
            parts.kind.delete(namespace=namespace)
        parts.registry.remove()
    processes.stop(parts)
