"""What goes into a cluster: images, manifests, a whole deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.commands.command import AS_FOR_UP, TAKE_OVER, command, workspace
from windsock.commands.late import LateModule

if TYPE_CHECKING:
    from invoke import Context

    from windsock import flow
else:
    flow = LateModule("windsock.flow")


@command()
def build(context: Context) -> None:
    """Build the images that run in a cluster; nothing happens if they are current."""
    flow.build(workspace(context))


@command(
    help={
        **AS_FOR_UP,
        "tilt": "Print what the Tiltfile needs: images without a registry, volumes that stay.",
    }
)
def render(
    c: Context, target: str = "", context: str = "", namespace: str = "", tilt: bool = False
) -> None:
    """Print the manifests exactly as `invoke up` would apply them, without the Secret."""
    work = workspace(c, kube_context=context, namespace=namespace, target=target)
    flow.render(work, tilt=tilt)


@command(
    help={
        **AS_FOR_UP,
        "skip-unserved": "Leave out objects whose kind the cluster does not serve.",
    }
)
def diff(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
) -> int:
    """Show what `invoke up` would change in the cluster; exit code 1 if anything."""
    work = workspace(
        c,
        kube_context=context,
        namespace=namespace,
        skip_unserved=skip_unserved,
        target=target,
    )
    return flow.diff(work)


@command(help={**AS_FOR_UP, "take-over": TAKE_OVER})
def deploy(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    take_over: bool = False,
) -> None:
    """Bring Airflow up in its cluster with the DAGs parsed, and leave nothing running here."""
    work = workspace(
        c, kube_context=context, namespace=namespace, target=target, take_over=take_over
    )
    flow.deploy(work)


@command(help=dict(AS_FOR_UP))  # Invoke empties it when it has read it.
def secret(c: Context, target: str = "", context: str = "", namespace: str = "") -> None:
    """Make the namespace and its Secret, if there are none: for what others deploy."""
    flow.secret(workspace(c, kube_context=context, namespace=namespace, target=target))
