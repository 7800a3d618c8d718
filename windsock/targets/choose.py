"""Which target an environment runs on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.targets.location import Location

if TYPE_CHECKING:
    from windsock.config import Settings
    from windsock.targets.base import Checker, Operations, Target
    from windsock.targets.cluster.parts import Parts
    from windsock.targets.cluster.target import ClusterTarget
    from windsock.targets.local.parts import LocalParts

LOCAL = "Airflow's own processes on this machine; needs no Docker, no cluster"


def target(settings: Settings) -> Target:
    """The target that the settings name; `auto` is the one that is up, else `local`.

    Args:
        settings: Of the environment.

    Raises:
        ConfigurationError: A target that needs a context has none, or an environment of another
            target is up.
    """
    location = _location(settings)
    if location.target == "local":
        from windsock.targets.local.target import LocalTarget  # noqa: PLC0415 - heavy

        return LocalTarget(_local_parts(settings))
    return _cluster_target(settings, location)


def operations(settings: Settings) -> Operations:
    """What can be done with the environment of the target that the settings name.

    Raises:
        ConfigurationError: As for `target`.
    """
    location = _location(settings)
    if location.target == "local":
        from windsock.targets.local.operations import LocalOperations  # noqa: PLC0415 - heavy

        return LocalOperations(_local_parts(settings))
    from windsock.targets.cluster.operations import ClusterOperations  # noqa: PLC0415 - heavy

    return ClusterOperations(_parts(settings, location))


def cluster_target(settings: Settings, *, deployed_by_others: bool = False) -> ClusterTarget:
    """The target, for what only a cluster has.

    Args:
        settings: Of the environment.
        deployed_by_others: Bring up only the sync.

    Raises:
        ConfigurationError: The target is no cluster, or as for `target`.
    """
    location = _location(settings)
    if location.target == "local":
        raise ConfigurationError(
            "the target `local` has no cluster",
            "Name one: `--target kind`, `--target okteto` or `--context NAME`.",
        )
    if deployed_by_others:
        from windsock.targets.cluster.joining import JoinedTarget  # noqa: PLC0415 - heavy

        return JoinedTarget(_parts(settings, location))
    return _cluster_target(settings, location)


def checker(settings: Settings) -> Checker:
    """What imports DAGs without a running Airflow: on this machine, whatever the target is."""
    from windsock.targets.local.checker import LocalChecker  # noqa: PLC0415 - heavy

    return LocalChecker(_local_parts(settings))


def wanted(settings: Settings) -> Location:
    """Where the environment is wanted, whatever is up.

    Raises:
        ConfigurationError: A target that needs a context has none, or one that nobody has allowed.
    """
    return _wanted(settings, Location.load(settings.state_folder))


def _location(settings: Settings) -> Location:
    """Where the environment is wanted, which is where it is up, if it is."""
    up = Location.load(settings.state_folder)
    wanted = _wanted(settings, up)
    if up is not None and up != wanted:
        raise ConfigurationError(
            f"{up} is up here, not {wanted}",
            "Run `invoke down` first, or keep both by giving one a state folder of its own: "
            "INVOKE_WINDSOCK_STATE=.windsock-2 invoke …",
        )
    return wanted


def _local_parts(settings: Settings) -> LocalParts:
    from windsock.targets.local.parts import LocalParts  # noqa: PLC0415 - heavy

    return LocalParts(settings=settings, variables=dict(os.environ))


def _cluster_target(settings: Settings, location: Location) -> ClusterTarget:
    from windsock.targets.cluster.okteto import OktetoParts, OktetoTarget  # noqa: PLC0415 - heavy
    from windsock.targets.cluster.target import ClusterTarget  # noqa: PLC0415 - heavy

    parts = _parts(settings, location)
    return OktetoTarget(parts) if isinstance(parts, OktetoParts) else ClusterTarget(parts)


def _parts(settings: Settings, location: Location) -> Parts:
    from windsock.targets.cluster.okteto import OktetoParts  # noqa: PLC0415 - heavy
    from windsock.targets.cluster.parts import Parts  # noqa: PLC0415 - heavy

    kind = OktetoParts if location.target == "okteto" else Parts
    return kind(settings=settings, location=location, variables=dict(os.environ))


def explain(settings: Settings) -> str:
    """The choice in words."""
    up = Location.load(settings.state_folder)
    wanted = _wanted(settings, up)
    if settings.target != "auto":
        return str(wanted)
    if up is not None:
        return f"{wanted} (auto: it is up here)"
    return f"{wanted} (auto: {LOCAL})"


def _wanted(settings: Settings, up: Location | None) -> Location:
    """Where the environment is wanted; `up` is where it is, or may be, up."""
    cluster = settings.cluster
    if settings.target == "auto":
        if up is not None and up.target == "context":
            check_allowed(settings, up.context)  # The permission may have been taken back.
        return up or Location(target="local")
    if settings.target == "local":
        return Location(target="local")
    if settings.target == "kind":
        context = f"kind-{cluster.kind_name}"
        return Location(target="kind", context=context, namespace=cluster.namespace)
    if settings.target == "okteto":
        from windsock.cluster import okteto  # noqa: PLC0415 - only here

        # Okteto made this context for its user: nobody has to allow it once more.
        context, namespace = okteto.place(os.environ)
        return Location(target="okteto", context=context, namespace=namespace)
    if not cluster.context:
        raise ConfigurationError(
            "the target `context` needs the name of a kube context",
            "Name it: `invoke up --context NAME`. `kubectl config get-contexts` lists them.",
        )
    check_allowed(settings, cluster.context)
    return Location(target="context", context=cluster.context, namespace=cluster.namespace)


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
