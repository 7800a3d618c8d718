"""Plays Okteto's part on any cluster: a namespace with a quota, an account, images, containers.

The commands of okteto.yml run as Okteto runs them: in the image that the manifest names, as root,
in a copy of the project at /okteto/src, with its variables and a kubeconfig whose context is named
as it names contexts; those of `deploy` through its proxy. What only its platform has (a registry,
an ingress) is not played.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster import account
from tests.cluster.okteto_proxy import proxied
from tests.cluster.room import eventually
from tests.e2e.project import ROOT
from windsock.cluster.api.client import Cluster
from windsock.cluster.images import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.conftest import ClusterAccess

Manifest = dict[str, Any]

INSTANCE = "https://okteto.example.com"
CONTEXT = "okteto_example_com"
DOMAIN = "okteto.example.com"
NAME = "windsock"
SOURCE = "/okteto/src"
RUNNER = "runner.Dockerfile"
ACCOUNT = "okteto-user"
REGISTRY = "okteto.example/windsock"
"""Where the built images seem to come from: a name that nothing else in the project knows."""

QUOTA = {
    # What docs/okteto.md says that Airflow needs, and room for a handful of tasks at a time.
    "requests.cpu": "1",
    "requests.memory": "3Gi",
    "limits.memory": "24Gi",
    "persistentvolumeclaims": "3",
    "requests.storage": "8Gi",
    "services.loadbalancers": "0",
    "services.nodeports": "0",
}
SECONDS = 600
BUILD_SECONDS = 900
IDLE_LINES = 2
"""Of `docker top`: a heading, and what keeps the container alive."""


def manifest() -> Manifest:
    """okteto.yml, as Okteto reads it."""
    loaded: Manifest = yaml.safe_load((ROOT / "okteto.yml").read_text(encoding="utf-8"))
    return loaded


def run(*arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code."""
    return subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=seconds,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def docker(*arguments: str, seconds: float = SECONDS) -> str:
    """Run docker, which must succeed."""
    done = run("docker", *arguments, seconds=seconds)
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def ignored(section: str) -> list[str]:
    """The patterns of .oktetoignore that hold for all, and for a section such as `test.dags`."""
    found, at = [], ""
    for line in (ROOT / ".oktetoignore").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(.+)\]", line):
            at = heading[1]
        elif line and not line.startswith("#") and at in ("", section):
            found.append(line)
    return found


def checkout(folder: Path, section: str, *, base: str, changes: Mapping[str, str | None]) -> None:
    """Put down what Okteto would build its own image of, to run a section's commands in it.

    Args:
        folder: An empty one.
        section: As .oktetoignore names it.
        base: The image that the section names.
        changes: Path → what stands there instead; a folder or file that is None is not there.
    """
    tracked = run("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                  "--exclude-standard").stdout  # fmt: skip
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name, text in changes.items():
        path = folder / name
        if text is None and path.is_dir():
            shutil.rmtree(path)
        elif text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / ".dockerignore").write_text("\n".join([*ignored(section), RUNNER]) + "\n")
    (folder / RUNNER).write_text(
        f"FROM {base}\nUSER 0\nWORKDIR {SOURCE}\nCOPY . {SOURCE}\nENTRYPOINT []\n"
    )


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a section's commands: the exit code of the last one, and what all said."""

    code: int
    said: str


class Installer:
    """Okteto, for one namespace.

    Args:
        access: The cluster, as its administrator.
        namespace: Made by `prepared`.
        kubeconfig: Of the account that has rights in the namespace only.
        images: Name in `build` → image.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        namespace: str,
        kubeconfig: Path,
        images: Mapping[str, str],
    ) -> None:
        self.access = access
        self.namespace = namespace
        self.kubeconfig = kubeconfig
        self.images = images

    def allow_leases(self) -> None:
        """Let the account use leases: it may not on Kubernetes 1.20, where `admin` lacks them."""
        cluster = Cluster.connect(
            context=self.access.context,
            namespace=self.namespace,
            kubeconfig=str(self.access.kubeconfig),
        )
        group = "rbac.authorization.k8s.io"
        name = f"{ACCOUNT}-leases"
        rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}
        role = {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": {"name": name},
            "rules": [rule],
        }
        cluster.create(role)
        account.bind(cluster, name, account=ACCOUNT, role_kind="Role", role=name)

    def variables(self, section: str, image: str) -> dict[str, str]:
        """What Okteto sets for the commands of a section.

        Only `deploy` builds all images: elsewhere Okteto looks up no more than those that the
        section's own image is named by. `destroy` is not told the domain.
        """
        built = {f"OKTETO_BUILD_{name.upper()}_IMAGE": name for name in self.images}
        named = built if section == "deploy" else re.findall(r"\$\{(\w+)\}", image)
        return {
            "OKTETO_CONTEXT": INSTANCE,
            "OKTETO_NAMESPACE": self.namespace,
            "OKTETO_NAME": NAME,
            **({} if section == "destroy" else {"OKTETO_DOMAIN": DOMAIN}),
            **({"CI": "true"} if section.startswith("test.") else {}),
            **{variable: self.images[built[variable]] for variable in named},
        }

    def play(
        self,
        section: str,
        part: Manifest,
        *,
        keep: Path | None = None,
        changes: Mapping[str, str | None] | None = None,
    ) -> Played:
        """Run the commands of a section until one fails, and fetch its artifacts in any case.

        Args:
            section: As .oktetoignore names it.
            part: Of the manifest: `image`, `commands`, `artifacts`.
            keep: A folder for the artifacts.
            changes: See `checkout`.
        """
        said = ""
        with self._container(section, part["image"], changes or {}) as container:
            for item in part["commands"]:
                command = item if isinstance(item, str) else item["command"]
                done = run("docker", "exec", container, "bash", "-c", command)
                said += f"$ {command}\n{done.stdout}{done.stderr}"
                if done.returncode:
                    break
            for name in part.get("artifacts", []):
                assert keep is not None
                run("docker", "cp", f"{container}:{SOURCE}/{name}", str(keep))  # if it is there
            assert len(docker("top", container).splitlines()) == IDLE_LINES, "something runs on"
        return Played(code=done.returncode, said=said)

    @contextlib.contextmanager
    def _container(
        self, section: str, image: str, changes: Mapping[str, str | None]
    ) -> Iterator[str]:
        """The container that Okteto would run the commands of a section in."""
        variables = self.variables(section, image)
        base = re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], image)
        with tempfile.TemporaryDirectory(prefix="windsock-okteto-") as name:
            folder = Path(name)
            checkout(folder, section, base=base, changes=changes)
            built = docker("build", "--quiet", f"--file={folder / RUNNER}", name)
        options = [f"--env={name}={value}" for name, value in variables.items()]
        with self._reached(section) as kubeconfig:
            container = docker(
                *("run", "--detach", "--rm", "--network=host"),
                *(f"--volume={kubeconfig}:/okteto/kubeconfig:ro", *options),
                *("--env=KUBECONFIG=/okteto/kubeconfig", built, "sleep", "infinity"),
            )
            try:
                yield container
            finally:
                docker("rm", "--force", container)
                docker("image", "rm", "--force", built)

    @contextlib.contextmanager
    def _reached(self, section: str) -> Iterator[Path]:
        """The kubeconfig for a section: that of `deploy` leads through Okteto's proxy."""
        if section != "deploy":
            yield self.kubeconfig
            return
        direct = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        with (
            tempfile.TemporaryDirectory(prefix="windsock-okteto-") as name,
            proxied(direct, name=NAME, folder=Path(name)) as changed,
        ):
            path = Path(name) / "kubeconfig"
            path.write_text(yaml.safe_dump(changed))
            yield path


@contextlib.contextmanager
def built(stand_ins: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What the manifest's `build` names, built; name → image. Their layers stay for the next time.

    Args:
        stand_ins: Build arguments for base images that cannot be pulled here.
    """
    images: dict[str, str] = {}
    arguments = {**recipe.arguments(os.environ), **stand_ins}
    try:
        for name, item in manifest()["build"].items():
            file = ROOT / item["context"] / item["dockerfile"]
            known = set(re.findall(r"^ARG (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
            options = [f"--build-arg={key}={arguments[key]}" for key in known & arguments.keys()]
            options += [f"--target={item['target']}"] if "target" in item else []
            images[name] = f"{REGISTRY}-{name}:test"
            docker(
                *("build", "--quiet", f"--file={file}", f"--tag={images[name]}", *options),
                str(ROOT / item["context"]),
                seconds=BUILD_SECONDS,
            )
        yield images
    finally:
        if images:
            docker("image", "rm", "--force", "--no-prune", *images.values())


@contextlib.contextmanager
def prepared(
    access: ClusterAccess, *, namespace: str, images: Mapping[str, str], folder: Path
) -> Iterator[Installer]:
    """A namespace as Okteto gives it to a user: a quota, and an account of it alone."""
    cluster = Cluster.connect(
        context=access.context, namespace=namespace, kubeconfig=str(access.kubeconfig)
    )
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    cluster.create(space)
    try:
        cluster.create(_quota())
        account.make(cluster, name=ACCOUNT, role_kind="ClusterRole", role="admin")
        kubeconfig = folder / "kubeconfig"
        signed_in = account.signed_in(cluster, access.kubeconfig, name=ACCOUNT, context=CONTEXT)
        kubeconfig.write_text(yaml.safe_dump(signed_in))
        yield Installer(access, namespace=namespace, kubeconfig=kubeconfig, images=images)
    finally:
        cluster.delete(space)
        eventually(lambda: cluster.get("v1", "Namespace", namespace) is None, "it is gone")


def _quota() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "okteto"},
        "spec": {"hard": QUOTA},
    }
