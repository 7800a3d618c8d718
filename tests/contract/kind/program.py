"""What the stand-in of kind does when it is run: `python program.py FOLDER ARGUMENTS`.

It says what kind v0.2x and v0.3x say, where they say it (all but answers goes to stderr), ends with
their exit codes, and treats kubeconfig files as they do. FOLDER stands for Docker: the nodes,
and how things shall go wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tarfile
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

import yaml

NODE_IMAGE = "kindest/node:v1.34.0"
LOCK_ATTEMPTS = 5


def say(text: str) -> None:
    """As kind's logger: everything that is no answer."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def fail(text: str, output: str = "") -> NoReturn:
    say(f"ERROR: {text}")
    if output:
        say(f"\nCommand Output: {output}")
    sys.exit(1)


class Docker:
    """The nodes and the images of this machine.

    Args:
        folder: Holds them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = folder / "nodes"
        self.plan: dict[str, Any] = _read(folder / "plan.json", {})
        """How things go wrong."""

    def clusters(self) -> list[str]:
        return sorted(path.stem for path in self.nodes.glob("*.json"))

    def node(self, cluster: str) -> dict[str, Any]:
        return dict(_read(self.nodes / f"{cluster}.json", {}))

    def put(self, cluster: str, **node: Any) -> None:
        path = self.nodes / f"{cluster}.json"
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({**self.node(cluster), **node}))
        fresh.replace(path)

    def remove(self, cluster: str) -> None:
        if cluster in self.clusters():
            (self.nodes / f"{cluster}.json").unlink()
            say(f'Deleted nodes: ["{cluster}-control-plane"]')


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


# --- kubeconfig files -----------------------------------------------------------------------------


def files(explicit: str) -> list[Path]:
    """Those that kind looks at, by kubectl's rules."""
    if explicit:
        return [Path(explicit)]
    listed = dict.fromkeys(part for part in os.environ.get("KUBECONFIG", "").split(":") if part)
    return [Path(part) for part in listed] or [Path(os.environ["HOME"], ".kube", "config")]


def change(path: Path, how: Any, *, always: bool = False) -> None:
    """Read a file, change what is in it, and write it as kind does: with sorted keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    for attempt in range(LOCK_ATTEMPTS):
        try:
            lock.touch(mode=0, exist_ok=False)
            break
        except FileExistsError:
            if attempt == LOCK_ATTEMPTS - 1:
                fail(f"failed to lock config file: open {lock}: file exists")
            time.sleep(0.01)
    try:
        before = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
        after = how(before)
        if always or after != before:
            text = yaml.safe_dump(after, default_flow_style=False) if after else ""
            path.touch(mode=0o600)
            path.write_text(text)
    finally:
        lock.unlink()


def export(docker: Docker, cluster: str, explicit: str) -> None:
    node = docker.node(cluster)
    if not node:
        fail(
            f"could not locate any control plane nodes for cluster named '{cluster}'. "
            "Use the --name option to select a different cluster"
        )
    if not node["complete"]:
        fail(
            "failed to get cluster internal kubeconfig: command "
            f'"docker exec --privileged {cluster}-control-plane cat /etc/kubernetes/admin.conf" '
            "failed with error: exit status 1",
            "cat: /etc/kubernetes/admin.conf: No such file or directory",
        )
    key = f"kind-{cluster}"
    api = (docker.folder / "api").read_text()
    entries = {
        "clusters": {"name": key, "cluster": {"server": f"{api}/{node['uid']}"}},
        "users": {"name": key, "user": {"token": node["uid"]}},
        "contexts": {"name": key, "context": {"cluster": key, "user": key}},
    }

    def merge(found: dict[str, Any]) -> dict[str, Any]:
        merged = {"apiVersion": "v1", "kind": "Config", "preferences": {}, **found}
        for section, entry in entries.items():
            kept = [item for item in found.get(section) or [] if item["name"] != key]
            merged[section] = [*kept, entry]
        return {**merged, "current-context": key}

    known = files(explicit)
    change(next((path for path in known if path.is_file()), known[-1]), merge, always=True)


def forget(cluster: str, explicit: str) -> None:
    key = f"kind-{cluster}"

    def without(found: dict[str, Any]) -> dict[str, Any]:
        left = dict(found)
        for section in ("clusters", "users", "contexts"):
            if section in left:
                left[section] = [item for item in left[section] if item["name"] != key]
        if left.get("current-context") == key:
            del left["current-context"]
        return left

    for path in files(explicit):
        change(path, without)


# --- the commands ---------------------------------------------------------------------------------


def get_clusters(docker: Docker, _: argparse.Namespace) -> None:
    if docker.plan.get("docker"):
        fail(
            'failed to list clusters: command "docker ps -a --filter '
            "label=io.x-k8s.kind.cluster --format '{{.Label "
            '"io.x-k8s.kind.cluster"}}\'" failed with error: exit status 1',
            docker.plan["docker"],
        )
    for name in docker.clusters():
        sys.stdout.write(f"{name}\n")
    if not docker.clusters():
        say("No kind clusters found.")


def create_cluster(docker: Docker, options: argparse.Namespace) -> None:
    name, node = options.name, f"{options.name}-control-plane"
    config = yaml.safe_load(Path(options.config).read_text()) if options.config else {}
    image = (config.get("nodes") or [{}])[0].get("image", NODE_IMAGE)
    if name in docker.clusters():
        fail(
            f'failed to create cluster: node(s) already exist for a cluster with the name "{name}"'
        )

    def give_up(what: str, output: str) -> NoReturn:
        if not options.retain:
            forget(name, options.kubeconfig)
            docker.remove(name)
        fail(f"failed to create cluster: {what}", output)

    say(f'Creating cluster "{name}" ...')
    say(f" • Ensuring node image ({image}) 🖼  ...")
    say(f" ✓ Ensuring node image ({image}) 🖼")
    run = f'command "docker run --name {node} --hostname {node} … {image}" failed with error: '
    if docker.plan.get("quicker"):
        docker.put(name, uid=uuid.uuid4().hex, complete=True, images=[])
    say(" • Preparing nodes 📦   ...")
    if name in docker.clusters():
        say(" ✗ Preparing nodes 📦 ")
        give_up(
            f"{run}exit status 125",
            f'docker: Error response from daemon: Conflict. The container name "/{node}" is '
            f'already in use by container "{"0" * 64}". You have to remove (or rename) that '
            "container to be able to reuse that name.\n\n"
            "Run 'docker run --help' for more information",
        )
    docker.put(name, uid=uuid.uuid4().hex, complete=False, images=[])
    if image != NODE_IMAGE:
        say(" ✗ Preparing nodes 📦 ")
        give_up(
            f"{run}exit status 127",
            "docker: Error response from daemon: failed to create task for container: failed to "
            'create shim task: OCI runtime create failed: exec: "/missing": no such file or '
            "directory: unknown",
        )
    if docker.plan.get("slow"):
        signal.pause()
    say(" ✓ Preparing nodes 📦 ")
    for step in ("Writing configuration 📜", "Starting control-plane 🕹️"):
        say(f" • {step}  ...")
        say(f" ✓ {step}")
    say(" • Waiting ≤ 5m0s for control-plane = Ready ⏳  ...")
    docker.put(name, complete=True)
    say(" ✓ Waiting ≤ 5m0s for control-plane = Ready ⏳")
    say(" • Ready after 15s 💚")
    export(docker, name, options.kubeconfig)
    say(f'Set kubectl context to "kind-{name}"')
    say(f"You can now use your cluster with:\n\nkubectl cluster-info --context kind-{name}\n")
    say("Have a nice day! 👋")


def delete_cluster(docker: Docker, options: argparse.Namespace) -> None:
    say(f'Deleting cluster "{options.name}" ...')
    forget(options.name, options.kubeconfig)
    docker.remove(options.name)
    late = docker.folder / "late"
    if docker.plan.get("late") and not late.exists():
        late.touch()  # once: Docker was making this node
        docker.put(options.name, uid=uuid.uuid4().hex, complete=False, images=[])


def export_kubeconfig(docker: Docker, options: argparse.Namespace) -> None:
    export(docker, options.name, options.kubeconfig)
    say(f'Set kubectl context to "kind-{options.name}"')


def load_image_archive(docker: Docker, options: argparse.Namespace) -> None:
    [path] = options.what
    if not Path(path).exists():
        fail(f"stat {path}: no such file or directory")
    if not docker.node(options.name):
        fail(f'no nodes found for cluster "{options.name}"')
    with tarfile.open(path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        names = [name for image in json.load(manifest) for name in image["RepoTags"]]
    _import(docker, options.name, names)


def _import(docker: Docker, cluster: str, images: list[str]) -> None:
    docker.put(cluster, images=[*docker.node(cluster)["images"], *images])


COMMANDS = {
    "get clusters": get_clusters,
    "create cluster": create_cluster,
    "delete cluster": delete_cluster,
    "export kubeconfig": export_kubeconfig,
    "load image-archive": load_image_archive,
}


def main(folder: Path, arguments: list[str]) -> None:
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    command = COMMANDS.get(" ".join(arguments[:2]))
    if command is None:
        fail(f'unknown command "{" ".join(arguments[:2])}" for "kind"')
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--name", default="kind")
    parser.add_argument("--kubeconfig", default="")
    if arguments[0] == "create":
        parser.add_argument("--config", default="")
        parser.add_argument("--wait", default="0s")
        parser.add_argument("--retain", action="store_true")
    if arguments[0] == "load":
        parser.add_argument("what", nargs="+")
    command(Docker(folder), parser.parse_args(arguments[2:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
