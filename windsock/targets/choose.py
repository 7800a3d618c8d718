"""Which target an environment runs on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.targets.location import Location

if TYPE_CHECKING:
    from windsock.config import Settings
    from windsock.targets.base import Checker, Target
    from windsock.targets.cluster import ClusterTarget
    from windsock.targets.local import LocalTarget

LOCAL = "Airflow's own processes on this machine; needs no Docker, no cluster"


def target(settings: Settings) -> Target:
    """The target that the settings name; `auto` is the one that is up here, else `local`.

    Raises:
        ConfigurationError: A target that needs a context has none, or an environment of another
            target is up here.
    """
    location = Location.load(settings.state_folder)
    wanted = _wanted(settings, location)
    if location is not None and location != wanted:
        raise ConfigurationError(
            f"{location} is up here, not {wanted}",
            "Run `invoke down` first, or keep both by giving one a state folder of its own: "
            "INVOKE_WINDSOCK_STATE=.windsock-2 invoke …",
        )
    if wanted.target == "local":
        return _local(settings)
    from windsock.targets.cluster import ClusterTarget  # noqa: PLC0415 - heavy
    from windsock.targets.okteto import OktetoTarget  # noqa: PLC0415 - heavy

    kind = OktetoTarget if wanted.target == "okteto" else ClusterTarget
    return kind(settings, location=wanted, variables=dict(os.environ))


def cluster_target(settings: Settings) -> ClusterTarget:
    """The target, for what only a cluster has.

    Raises:
        ConfigurationError: It is no cluster.
    """
    from windsock.targets.cluster import ClusterTarget  # noqa: PLC0415 - heavy

    found = target(settings)
    if not isinstance(found, ClusterTarget):
        raise ConfigurationError(
            "the target `local` has no cluster",
            "Name one: `--target kind`, `--target okteto` or `--context NAME`.",
        )
    return found


def checker(settings: Settings) -> Checker:
    """Where `invoke dags.check` imports DAGs: here, without a running Airflow, on any target."""
    return _local(settings)


def _local(settings: Settings) -> LocalTarget:
    from windsock.targets.local import LocalTarget  # noqa: PLC0415 - heavy

    return LocalTarget(settings, variables=dict(os.environ))


def explain(settings: Settings) -> str:
    """The choice in words."""
    location = Location.load(settings.state_folder)
    wanted = _wanted(settings, location)
    if settings.target != "auto":
        return str(wanted)
    if location is not None:
        return f"{wanted} (auto: it is up here)"
    return f"{wanted} (auto: {LOCAL})"


def _wanted(settings: Settings, location: Location | None) -> Location:
    cluster = settings.cluster
    if settings.target == "auto":
        return _again(settings, location) if location else Location(target="local")
    if settings.target == "local":
        return Location(target="local")
    if settings.target == "kind":
        context = f"kind-{cluster.kind_name}"
        return Location(target="kind", context=context, namespace=cluster.namespace)
    if settings.target == "okteto":
        from windsock.cluster import okteto  # noqa: PLC0415 - only here

        # Okteto made this context for its user: nobody has to allow it once more.
        place = okteto.place(os.environ)
        return Location(target="okteto", context=place.context, namespace=place.namespace)
    if not cluster.context:
        raise ConfigurationError(
            "the target `context` needs the name of a kube context",
            "Name it: `invoke up --context NAME`. `kubectl config get-contexts` lists them.",
        )
    check_allowed(settings, cluster.context)
    return Location(target="context", context=cluster.context, namespace=cluster.namespace)


def _again(settings: Settings, location: Location) -> Location:
    """Where the environment is that is up here; its context may have lost its leave since."""
    if location.target == "context":
        check_allowed(settings, location.context)
    return location


def check_allowed(settings: Settings, context: str) -> None:
    """Refuse a context that nobody has allowed: it may be production.

    Raises:
        ConfigurationError: With the line to add to invoke.yaml.
    """
    allowed_contexts = settings.cluster.allowed_contexts
    if context in allowed_contexts:
        return
    allowed = [*allowed_contexts, context]
    raise ConfigurationError(
        f"windsock may not deploy to the context {context!r}",
        "If it is no production cluster, allow it in invoke.yaml:\n"
        f"windsock:\n  cluster:\n    allowed_contexts: [{', '.join(allowed)}]",
    )
