"""Airflow on Kubernetes: one image, the manifests of kube/, a pod per task.

What runs in the cluster is applied there; what runs on this machine, the sync and the forwarded
port, belongs to the same supervisor as the local target's processes.
"""

from __future__ import annotations

import contextlib
import getpass
import socket
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.airflow.health import (
    HEALTH_NAMES,
    airflow_health,
    loopback_client,
    wait_until_healthy,
)
from windsock.cluster.access import logs, streams
from windsock.cluster.access.forward import ForwardSettings
from windsock.cluster.api import lease, workloads
from windsock.cluster.api.client import OURS, Cluster
from windsock.cluster.api.failures import Unreachable
from windsock.cluster.images import image
from windsock.cluster.images.delivery import SharedEngine, ToKind
from windsock.cluster.images.named_registry import NamedRegistry
from windsock.cluster.images.registry import KindRegistry
from windsock.cluster.kind import Kind
from windsock.cluster.manifests import apply, difference, removal, secrets, served, settings
from windsock.cluster.manifests import render as manifests
from windsock.cluster.rollout import follow as rollout
from windsock.errors import (
    ConfigurationError,
    EnvironmentFailure,
    WindsockError,
)
from windsock.local import ports
from windsock.local.components import Layout, inherited_variables
from windsock.local.files import private_folder
from windsock.local.locking import StateLock
from windsock.local.logs import follow_logs
from windsock.local.orphans import carries_mark
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync.protocol import TAKE_OVER_HINT, StoreBusy
from windsock.sync_process.control import ControlClient
from windsock.sync_process.settings import PodSettings
from windsock.targets.applied_record import AppliedRecord
from windsock.targets.base import Component
from windsock.targets.folder import check_folders, remove_state
from windsock.targets.images import BuiltImages
from windsock.targets.location import Location
from windsock.targets.namespace_lease import NamespaceLease
from windsock.targets.this_machine import (
    describe,
    module_program,
    run_as_described,
    sync_program,
    sync_says,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx

    from windsock.config import Settings
    from windsock.local.programs import Program
    from windsock.targets.images import PodImages
    from windsock.terminal.console import Console

WORKLOADS = ("postgres", "api-server", "scheduler", "dag-processor", "triggerer")
HERE = ("sync", "forward")
ALL = (*WORKLOADS, "worker", *HERE)
API_PORT = 8080


class ClusterTarget:
    """See the module, and `windsock.targets.base.Target` for the verbs.

    Args:
        settings: Of the environment.
        place: The context and the namespace.
        variables: The environment variables of this process.
    """

    def __init__(
        self, settings: Settings, *, location: Location, variables: Mapping[str, str]
    ) -> None:
        self.name = location.target
        self._location = location
        self._settings = settings
        self._inherited = variables
        self._layout = Layout(state=settings.state_folder)
        self._applied = AppliedRecord(self._layout.state)

    # --- the parts, made when first needed ----------------------------------------------------

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster.connect(
            context=self._location.context,
            namespace=self._location.namespace,
            kubeconfig=self._settings.cluster.kubeconfig or None,
        )

    @cached_property
    def _kind(self) -> Kind:
        return Kind(
            name=self._settings.cluster.kind_name,
            config=self._settings.project / "kube" / "kind.yaml",
            kubeconfig=self._settings.cluster.kubeconfig or None,
        )

    @cached_property
    def _registry(self) -> KindRegistry:
        return KindRegistry(self._settings.cluster.kind_name)

    @cached_property
    def _images(self) -> PodImages:
        if self.name == "kind":
            return BuiltImages(
                self._settings,
                ToKind(kind=self._kind, registry=self._registry, on_nodes=self._on_nodes),
            )
        if address := self._settings.cluster.registry:
            return BuiltImages(self._settings, NamedRegistry(address))
        return BuiltImages(self._settings, SharedEngine())

    def _on_nodes(self) -> set[str]:
        return self._cluster.node_images()  # There is none before kind has made it.

    @cached_property
    def _client(self) -> str:
        """Who this environment is, for others who would sync to its namespace."""
        return lease.identity(
            user=getpass.getuser(), host=socket.gethostname(), state=self._layout.state
        )

    @cached_property
    def _lease(self) -> NamespaceLease:
        return NamespaceLease(
            self._cluster.within(lease.ANSWER_SECONDS),
            client=self._client,
            take_over=self._settings.cluster.take_over,
        )

    @cached_property
    def _secrets(self) -> Secrets:
        private_folder(self._layout.state)
        return Secrets.ensure(self._layout.secrets)

    @cached_property
    def _supervisor(self) -> Supervisor:
        return Supervisor(
            self._layout.state,
            password=self._secrets.supervisor_password,
            inherited=inherited_variables(self._inherited),
        )

    @cached_property
    def _port(self) -> ports.PortChoice:
        private_folder(self._layout.state)  # It is remembered there, by `invoke render` too.
        chosen = ports.choose(
            {"api": self._settings.cluster.port},
            memory=self._layout.ports,
            ours=lambda pid: carries_mark(pid, self._layout.state),
        )
        return chosen["api"]

    @property
    def _url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self._port.port}"

    @property
    def _base_url(self) -> str:
        """Where the links in the UI lead."""
        return self._url

    @property
    def _told_dags_folder(self) -> str:
        """The folder that tracebacks name."""
        return str(self._settings.dags_folder.resolve())

    @property
    def _overlay(self) -> str:
        return self._settings.cluster.overlay or self.name

    def objects(self, *, tilt: bool = False) -> list[dict[str, Any]]:
        """Everything that is applied, the Secret aside.

        Args:
            tilt: As Tilt applies it: it builds the images, and gives them a registry.
        """
        images = image.wanted(self._settings) if tilt else self._images.names()
        return manifests.objects(
            self._settings.project,
            overlay=self._overlay,
            namespace=self._location.namespace,
            airflow_image=images.airflow,
            postgres_image=images.postgres,
            settings=settings.variables(self._settings, base_url=self._base_url),
            dags_folder=self._told_dags_folder,
            pull_secret=self._settings.cluster.pull_secret,
            components=["tilt"] if tilt else [],
        )

    @cached_property
    def _loopback(self) -> httpx.Client:
        return loopback_client()

    def _programs(self) -> list[Program]:
        return [self._sync_program(), self._forward_program()]

    def _sync_program(self) -> Program:
        return sync_program(
            self._settings,
            self._layout,
            store=settings.STORE,
            processor_socket=settings.PROCESSOR_SOCKET,
            pod=PodSettings(
                context=self._location.context,
                namespace=self._location.namespace,
                kubeconfig=self._settings.cluster.kubeconfig,
                client=self._client,
            ),
        )

    def _forward_program(self) -> Program:
        forward = ForwardSettings(
            context=self._location.context,
            kubeconfig=self._settings.cluster.kubeconfig or None,
            namespace=self._location.namespace,
            selector=workloads.selector("api-server"),
            remote_port=API_PORT,
            local_port=self._port.port,
        )
        return module_program(
            "forward",
            "windsock.cluster.access.forward",
            forward.as_variable(),
            settings=self._settings,
        )

    # --- bringing it up -----------------------------------------------------------------------

    def running(self) -> Environment | None:
        """See `Target`."""
        if not (self._layout.state / ENVIRONMENT_FILE).exists():
            return None
        check_folders(self._settings)
        self._images.keep()
        if not self._supervisor.alive():
            return None
        if not self._is_as_applied():
            return None
        if not run_as_described(self._supervisor, self._layout, self._programs()):
            return None
        environment = Environment.load(self._layout.state)
        if not all(self._health(environment).values()):
            return None
        self._lease.use_take_over()
        return environment

    @contextlib.contextmanager
    def bringing_up(self) -> Iterator[None]:
        """See `Target`."""
        with StateLock(self._layout.state).held():
            self._location.save(self._layout.state)
            yield

    def prepare(self, console: Console) -> None:
        """Reach the cluster, see that it serves all kinds, and get the images to it."""
        check_folders(self._settings)
        self._check_ours()
        with console.step("cluster") as step:
            if self.name == "kind" and self._kind.ensure(step.progress):
                self._stop_here()  # What still runs here talks to a cluster that is gone.
            step.detail = f"Kubernetes {self._cluster.version()}, {self._location}"
            self._check_served()
        self._images.prepare(console)

    def _check_ours(self) -> None:
        """Raise if somebody else, say Tilt, applies what is there and our sync is part of it."""
        if self._applied.by_others():
            raise EnvironmentFailure(
                f"others deployed what is in {self._location}, and windsock only syncs to it",
                "Is it just being updated? Try again in a moment, or bring it up as it was brought "
                "up (`tilt up`). To have windsock deploy there: `invoke down` first.",
            )

    def _check_served(self) -> None:
        """Name what the cluster cannot take before anything is made or built for it."""
        served.only_served(
            self._cluster,
            manifests.render(self._settings.project, self._overlay),
            skip_unserved=self._settings.cluster.skip_unserved,
        )

    def deploy(self, console: Console) -> None:
        """Apply what changed."""
        if self._port.reason:
            console.warning(f"port {self._port.reason}: using {self._port.port}")
        with contextlib.ExitStack() as stack:
            with console.step("applied") as step:
                self.ensure_secret()
                stack.enter_context(self._lease.for_change())
                objects = self.objects()
                self._applied.clear()
                done = apply.apply(
                    self._cluster,
                    objects,
                    progress=step.progress,
                    skip_unserved=self._settings.cluster.skip_unserved,
                )
                step.detail = str(done)
            with console.step("rolled out") as step:
                self._roll_out(objects, step.progress)
        self._applied.save(objects)

    def ensure_secret(self) -> None:
        """Make the namespace and its Secret, or take over the passwords that are in it."""
        self._cluster.ensure_namespace()
        self._secrets = secrets.ensure(self._cluster, self._layout.secrets)

    def join(self, console: Console) -> None:
        """Instead of `deploy`: wait until what others applied is ready, and change nothing."""
        check_folders(self._settings)
        with console.step("rolled out by others") as step:
            self.ensure_secret()
            with self._lease.for_change():
                self._applied.clear()
                self._roll_out(self._applied_by_others(), step.progress)
        self._applied.save_by_others()

    def _applied_by_others(self) -> list[dict[str, Any]]:
        """What `join` waits for: what would be applied, with the migration that is there.

        A Job that is done may have been deleted since.
        """
        jobs = self._cluster.items("batch/v1", "Job", selector=OURS)
        return [*(item for item in self.objects() if item["kind"] != "Job"), *jobs]

    def _roll_out(self, objects: list[dict[str, Any]], progress: Callable[[str], None]) -> None:
        rollout.wait(self._cluster, objects, progress=progress, timeout=self._settings.up_timeout)

    def wait(self, console: Console) -> Environment:
        """Start the sync and the forwarded port, and wait until all answers."""
        environment = describe(
            self._settings,
            self._layout,
            target=self.name,
            url=self._url,
            secrets=self._secrets,
        )
        with console.step("Airflow") as step:
            self._supervisor.apply(self._programs())
            self._supervisor.start(*HERE)
            self._wait_healthy(environment, step.progress)
            step.detail = f"{environment.airflow} on {environment.url}"
        return environment

    def _wait_healthy(self, environment: Environment, progress: Any) -> None:
        def unhealthy() -> list[str]:
            self._supervisor.check(*HERE)
            self._check_held(environment)
            return [name for name, good in self._health(environment).items() if not good]

        wait_until_healthy(
            unhealthy,
            seconds=self._settings.up_timeout,
            progress=progress,
            hint=lambda name: f"`invoke logs {name}` shows what it does.",
        )

    def _check_held(self, environment: Environment) -> None:
        """Raise if somebody else syncs: waiting is of no use then.

        Where no lease could be taken over, the store is, once.
        """
        client = ControlClient(environment.control_socket)
        try:
            held = client.status()["busy"]
        except (WindsockError, KeyError):
            return  # It is just starting.
        if not held:
            return
        if not self._lease.use_take_over():
            raise EnvironmentFailure(held, TAKE_OVER_HINT)
        client.take_over()

    def _health(self, environment: Environment) -> dict[str, bool]:
        """Component → whether Airflow calls it healthy, or the sync is connected."""
        said = airflow_health(self._loopback, environment.url)
        health = {name: (said.get(name) or {}).get("status") == "healthy" for name in HEALTH_NAMES}
        return {**health, "sync": sync_says(environment, "connected")}

    def _is_as_applied(self) -> bool:
        """Whether nothing changed since: neither here, nor by somebody who took the namespace."""
        if self._applied.by_others():
            return True
        objects = self.objects()
        if not self._applied.matches(objects):
            return False
        # It holds what is one environment's own: its settings and its port.
        try:
            return apply.is_applied(self._cluster, manifests.settings_of(objects))
        except (Unreachable, ConfigurationError):
            if self.name != "kind":
                raise
            # Deleted by other hands, it may be: `prepare` looks, and makes it anew.
            vars(self).pop("_cluster", None)
            return False

    # --- what it is made of -------------------------------------------------------------------

    def sources(self) -> Sequence[Path]:
        """See `Target`."""
        return self._images.sources()

    def meaning(self, changed: Collection[Path]) -> str:
        """See `Target`."""
        return self._images.meaning(changed)

    # --- the other verbs ----------------------------------------------------------------------

    def give_up(self, console: Console) -> None:
        """See `Target`: what is in the cluster stays, so that it can be looked at."""
        self._stop_here()
        self._lease.release()
        console.line(f"what was applied stays in {self._location}; `invoke down` removes it")

    def leave(self, console: Console) -> None:
        """End what runs on this machine; what is in the cluster goes on."""
        self._stop_here()
        self._applied.clear()
        console.line(f"left running in {self._location}")

    def end(self, console: Console) -> None:
        """See `Target`."""
        self.down(console, volumes=False)

    def down(self, console: Console, *, volumes: bool) -> None:
        """See `Target`."""
        with console.step("stopped") as step:
            self._stop_here()
            if self.name != "kind" or self._kind.exists():
                step.detail = self._remove(volumes=volumes, progress=step.progress)
        Location.remove(self._layout.state)
        if volumes:
            remove_state(self._layout, console)

    def _remove(self, *, volumes: bool, progress: Callable[[str], None]) -> str:
        """Take it out of the cluster, unless it is somebody else's by now; returns what to say."""
        try:
            with self._lease.for_removal() as check:

                def tell(text: str) -> None:
                    check()
                    progress(text)

                hidden = removal.delete_all(self._cluster, volumes=volumes, progress=tell)
        except StoreBusy as busy:
            return (
                f"here; {self._location} stays: {busy.message} "
                "(`invoke down --take-over` removes it all the same)"
            )
        return f"all but any {' or '.join(hidden)}, which this account may not list" * bool(hidden)

    def _stop_here(self) -> None:
        """End what runs on this machine."""
        (self._layout.state / ENVIRONMENT_FILE).unlink(missing_ok=True)
        self._applied.clear()
        if self._layout.secrets.exists():
            self._supervisor.shutdown()

    def delete_cluster(self, console: Console) -> None:
        """Delete the kind cluster and its registry.

        Raises:
            ConfigurationError: The cluster is not one that windsock made, or holds other
                environments.
            EnvironmentFailure: Somebody else syncs to the namespace.
        """
        if self.name != "kind":
            raise ConfigurationError(
                f"windsock did not make the cluster of {self._location}",
                "`invoke down --volumes` removes everything that windsock made in it.",
            )
        with console.step(f"deleted the kind cluster {self._kind.name}"):
            with contextlib.ExitStack() as stack:
                if self._kind.deletable(namespace=self._location.namespace):
                    self._hold_for_deletion(stack)
                self._kind.delete(namespace=self._location.namespace)
            self._registry.remove()
        self._stop_here()

    def _hold_for_deletion(self, stack: contextlib.ExitStack) -> None:
        try:
            stack.enter_context(self._lease.for_removal())
        except StoreBusy as busy:
            raise EnvironmentFailure(
                f"{busy.message} (namespace {self._location.namespace})",
                "Ask them; `invoke down --cluster --take-over` deletes the cluster all the same.",
            ) from None

    def diff(self) -> list[tuple[str, str]]:
        """Object → a unified diff of what applying would change."""
        return difference.diff(
            self._cluster,
            self.objects(),
            skip_unserved=self._settings.cluster.skip_unserved,
        )

    def component_names(self) -> Sequence[str]:
        """See `Target`."""
        return ALL

    def status(self) -> list[Component]:
        """See `Target`."""
        health: dict[str, bool] = {}
        with contextlib.suppress(WindsockError):
            environment = Environment.load(self._layout.state)
            health = {**self._health(environment), "sync": sync_says(environment, "healthy")}
        found = [
            Component(
                name=item.component,
                state=item.state,
                detail=item.detail,
                healthy=health.get(item.component),
            )
            for item in rollout.states(self._cluster)
        ]
        if not found:
            return []
        if not self._supervisor.alive():
            detail = "on this machine; `invoke up` starts it"
            return found + [Component(name=name, state="stopped", detail=detail) for name in HERE]
        for name, state in sorted(self._supervisor.states().items()):
            word = "running" if state.running else "failed"
            found.append(
                Component(
                    name=name,
                    state=word,
                    detail=state.description or "on this machine",
                    healthy=health.get(name),
                )
            )
        return found

    def logs(self, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
        """See `Target`."""
        if component in HERE:
            path = {component: self._layout.state / "logs" / f"{component}.log"}
            return follow_logs(path, follow=follow, lines=lines, prefixed=False)
        return logs.stream(self._cluster, component, follow=follow, lines=lines)

    def restart(self, console: Console, component: str | None) -> None:
        """See `Target`."""
        names = [component] if component else [*WORKLOADS, *HERE]
        if "worker" in names:
            raise ConfigurationError(
                "workers are not restarted: each runs one task", "Clear the task in the UI instead."
            )
        with console.step(f"restarted {', '.join(names)}") as step:
            here = [name for name in names if name in HERE]
            there = [name for name in names if name not in HERE]
            if there:
                rollout.restart(
                    self._cluster,
                    there,
                    progress=step.progress,
                    timeout=self._settings.up_timeout,
                )
            if here:
                self._supervisor.restart(*here)
            self._wait_healthy(Environment.load(self._layout.state), step.progress)

    def shell(self, command: Sequence[str]) -> int:
        """See `Target`."""
        return streams.run(
            self._cluster,
            "dag-processor",
            list(command) or ["bash"],
            interactive=sys.stdin.isatty() and sys.stdout.isatty(),
        )
