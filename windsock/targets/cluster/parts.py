"""What an environment in a cluster is made of; all modules of this package use it."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.cluster.api import lease
from windsock.cluster.api.client import Cluster
from windsock.cluster.images.delivery import SharedEngine, ToKind
from windsock.cluster.images.named_registry import NamedRegistry
from windsock.cluster.images.registry import KindRegistry
from windsock.cluster.kind import Kind
from windsock.cluster.manifests import render as manifests
from windsock.cluster.manifests import secrets
from windsock.cluster.manifests import settings as manifest_settings
from windsock.local import ports
from windsock.local.orphans import carries_mark
from windsock.targets.cluster.applied_record import AppliedRecord
from windsock.targets.cluster.images import BuiltImages
from windsock.targets.cluster.namespace_lease import NamespaceLease
from windsock.targets.this_machine import ThisMachine

if TYPE_CHECKING:
    from windsock.targets.cluster.images import PodImages


@dataclass(kw_only=True)
class Parts(ThisMachine):
    """The parts of one environment in a cluster, each made when it is first needed."""

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
    def port(self) -> ports.PortChoice:
        """The port on this machine at which Airflow answers."""
        chosen = ports.choose(
            {"api": self.settings.cluster.port},
            memory=self.layout.ports,
            ours=lambda pid: carries_mark(pid, self.layout.state),
        )
        return chosen["api"]

    def remember_port(self) -> None:
        """Write down which port was chosen, for the next command."""
        ports.remember({"api": self.port}, memory=self.layout.ports)

    @property
    def url(self) -> str:
        """Where Airflow answers on this machine."""
        return f"http://{ports.LOOPBACK}:{self.port.port}"

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

    @property
    def variables_digest(self) -> str:
        """What changes with the project's variables; empty before there is a key for it."""
        if not self.has_secrets or not self.project_variables:
            return ""
        return secrets.digest(self.project_variables, self.secrets)

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
            variables=self.variables_digest,
        )

    @property
    def not_waited_for(self) -> set[str]:
        """Components that need not be healthy, because somebody has taken their place."""
        return set()
