"""What an environment in a cluster is made of; all modules of this package use it."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.airflow.health import loopback_client
from windsock.cluster.api import lease
from windsock.cluster.api.client import Cluster
from windsock.cluster.images.delivery import SharedEngine, ToKind
from windsock.cluster.images.named_registry import NamedRegistry
from windsock.cluster.images.registry import KindRegistry
from windsock.cluster.kind import Kind
from windsock.cluster.manifests import render as manifests
from windsock.cluster.manifests import settings as manifest_settings
from windsock.local import ports
from windsock.local.components import Layout, inherited_variables
from windsock.local.files import private_folder
from windsock.local.orphans import carries_mark
from windsock.local.processes import Supervisor
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE
from windsock.targets.cluster.applied_record import AppliedRecord
from windsock.targets.cluster.images import BuiltImages
from windsock.targets.cluster.namespace_lease import NamespaceLease

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from windsock.config import Settings
    from windsock.targets.cluster.images import PodImages
    from windsock.targets.location import Location


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one environment, each made when it is first needed.

    Attributes:
        settings: Of the environment.
        location: The context and the namespace.
        variables: The environment variables of this process.
        read_only: Write nothing to the state folder, because only a plan is wanted.
    """

    settings: Settings
    location: Location
    variables: Mapping[str, str]
    read_only: bool = False

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster's API, in the namespace."""
        return Cluster.connect(
            context=self.location.context,
            namespace=self.location.namespace,
            kubeconfig=self.settings.cluster.kubeconfig or None,
        )

    def disconnect(self) -> None:
        """Connect again at the next use: the cluster may be another one by then."""
        vars(self).pop("cluster", None)

    @property
    def is_kind(self) -> bool:
        """Whether windsock may make and delete the cluster."""
        return self.location.target == "kind"

    @cached_property
    def kind(self) -> Kind:
        """The kind cluster of the target `kind`."""
        return Kind(
            name=self.settings.cluster.kind_name,
            config=self.settings.project / "kube" / "kind.yaml",
            kubeconfig=self.settings.cluster.kubeconfig or None,
        )

    @cached_property
    def registry(self) -> KindRegistry:
        """The registry from which the kind cluster pulls."""
        return KindRegistry(self.settings.cluster.kind_name)

    @cached_property
    def images(self) -> PodImages:
        """The images of the pods."""
        if self.is_kind:
            on_nodes = lambda: self.cluster.node_images()  # noqa: E731,PLW0108 - none exists yet
            return BuiltImages(
                self.settings, ToKind(kind=self.kind, registry=self.registry, on_nodes=on_nodes)
            )
        if address := self.settings.cluster.registry:
            return BuiltImages(self.settings, NamedRegistry(address))
        return BuiltImages(self.settings, SharedEngine())

    @cached_property
    def client(self) -> str:
        """The name of this environment, for others who want to sync to its namespace."""
        return lease.identity(
            user=getpass.getuser(), host=socket.gethostname(), state=self.layout.state
        )

    @cached_property
    def lease(self) -> NamespaceLease:
        """The right to change what is in the namespace."""
        return NamespaceLease(
            self.cluster.within(lease.ANSWER_SECONDS),
            client=self.client,
            take_over=self.settings.cluster.take_over,
        )

    @property
    def applied(self) -> AppliedRecord:
        """What was applied last."""
        return AppliedRecord(self.layout.state)

    @cached_property
    def layout(self) -> Layout:
        """The state folder."""
        return Layout(state=self.settings.state_folder)

    @property
    def was_up(self) -> bool:
        """Whether the environment is, or was, up."""
        return (self.layout.state / ENVIRONMENT_FILE).exists()

    @property
    def secrets(self) -> Secrets:
        """Passwords and keys, as they are in the state folder now."""
        private_folder(self.layout.state)
        return Secrets.ensure(self.layout.secrets)

    @cached_property
    def supervisor(self) -> Supervisor:
        """The supervisor of the sync and of the forwarded port."""
        return Supervisor(
            self.layout.state,
            password=self.secrets.supervisor_password,
            inherited=inherited_variables(self.variables),
        )

    @cached_property
    def port(self) -> ports.PortChoice:
        """The port on this machine at which Airflow answers."""
        if not self.read_only:
            private_folder(self.layout.state)  # `invoke render` stores the port there, too.
        chosen = ports.choose(
            {"api": self.settings.cluster.port},
            memory=self.layout.ports,
            remember=not self.read_only,
            ours=lambda pid: carries_mark(pid, self.layout.state),
        )
        return chosen["api"]

    @property
    def url(self) -> str:
        """Where Airflow answers on this machine."""
        return f"http://{ports.LOOPBACK}:{self.port.port}"

    @cached_property
    def loopback(self) -> httpx.Client:
        """A client for `url`."""
        return loopback_client()

    @property
    def overlay(self) -> str:
        """The folder below kube/overlays."""
        return self.settings.cluster.overlay or self.location.target

    @property
    def base_url(self) -> str:
        """Where the links in Airflow's UI lead."""
        return self.url

    @property
    def shown_dags_folder(self) -> str:
        """The DAG folder as tracebacks name it."""
        return str(self.settings.dags_folder.resolve())

    def objects(self, *, tilt: bool = False) -> list[dict[str, Any]]:
        """All objects that are applied, except the Secret.

        Args:
            tilt: Objects for Tilt, which builds the images and names them itself.
        """
        settings, images = self.settings, {}
        if not tilt:
            names = self.images.names()
            images[manifests.AIRFLOW_IMAGE] = names.airflow
            images[manifests.POSTGRES_IMAGE] = names.postgres
        return manifests.objects(
            settings.project,
            overlay=self.overlay,
            namespace=self.location.namespace,
            images=images,
            settings=manifest_settings.variables(
                settings, base_url=self.base_url, dags_folder=self.shown_dags_folder
            ),
            pull_secret=settings.cluster.pull_secret,
            components=["tilt"] if tilt else [],
        )

    @property
    def not_waited_for(self) -> set[str]:
        """Components that need not be healthy, because somebody has taken their place."""
        return set()
