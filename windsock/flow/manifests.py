"""What goes into a cluster: images and manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.targets import choose

if TYPE_CHECKING:
    from windsock.flow.workspace import Workspace

DIFFERS = 1
"""The exit code of `invoke diff` when something would change; as diff(1) and `kubectl diff`."""


def build(work: Workspace) -> None:
    """Build the images that run in a cluster; nothing leaves this machine."""
    from windsock.cluster.images import image  # noqa: PLC0415 - heavy

    with work.console.step("images") as step:
        images = image.ensure(work.settings, progress=step.progress)
        step.detail = "built" if images.built else "unchanged"
    for name in (images.airflow, images.postgres):
        work.console.write(name)
    if registry := work.settings.cluster.registry:
        work.console.detail(
            f"they are in this machine's Docker; `invoke up` and `invoke deploy` push them to "
            f"{registry}, what it lacks, for the target `context`"
        )


def render(work: Workspace, *, tilt: bool) -> None:
    """Print the manifests as YAML documents."""
    from windsock.cluster.manifests.render import as_yaml  # noqa: PLC0415 - heavy

    parts = choose.cluster_target(work.settings).parts
    objects = parts.objects(tilt=tilt)
    parts.remember_port()  # The objects name it.
    work.console.write(as_yaml(objects).rstrip("\n"))


def diff(work: Workspace) -> int:
    """Print what would change; exit code 1 if anything would."""
    from windsock.cluster.manifests import difference  # noqa: PLC0415 - heavy

    parts = choose.cluster_target(work.settings).parts
    changes = difference.diff(
        parts.cluster, parts.objects(), skip_unserved=work.settings.cluster.skip_unserved
    )
    for name, text in changes:
        work.console.line(name, "heading")
        work.console.write(text)
    if not changes:
        work.console.success("nothing would change")
    return DIFFERS if changes else 0
