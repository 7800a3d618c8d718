"""An image for what the toolkit takes from one that may not be pulled where the tests run."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
from typing import TYPE_CHECKING

from tests.cluster.installer import docker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KUBECTL = "windsock-stand-in-kubectl:test"


@contextlib.contextmanager
def kubectl_image(folder: Path) -> Iterator[str]:
    """An image with this machine's kubectl where the real image has its own: /bin/kubectl.

    Args:
        folder: To write the image's files to.
    """
    program = shutil.which("kubectl")
    assert program is not None, "kubectl is not installed"
    archive = folder / "kubectl.tar"
    with tarfile.open(archive, "w", dereference=True) as files:
        files.add(program, "bin/kubectl")
    docker("import", "--change", "LABEL windsock.stand-in=true", str(archive), KUBECTL)
    archive.unlink()
    yield KUBECTL
    docker("image", "rm", KUBECTL)
