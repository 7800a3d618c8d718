"""The cluster as a whole: `up`, `down` and what state it is in."""

from __future__ import annotations

import fcntl
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.cluster.debian import (
    api,
    binaries,
    certificates,
    cleanup,
    components,
    engine,
    images,
    kubectl,
    packages,
    places,
)
from tests.cluster.debian.commands import Commands, together
from tests.cluster.debian.daemons import Daemons, wait_until
from windsock.errors import EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import httpx

    Progress = Callable[[str], None]
    """Takes one line for people at each step."""

DAEMONS = Daemons(places.CLUSTER / "daemons")
PARTS = {
    *("etcd", "apiserver", "controller-manager", "scheduler"),
    *("dnsmasq", "names", "kubelet", "proxy"),
}


class State(NamedTuple):
    """What runs.

    Args:
        docker: Whether a docker engine runs that we started.
        parts: The names of the cluster's processes.
        ready: Whether the node takes pods.
    """

    docker: bool
    parts: tuple[str, ...]
    ready: bool


def up(progress: Progress) -> Path:
    """Bring the cluster up, unless it is.

    What it starts is stopped again if it fails or is interrupted; what it downloaded, compiled and
    installed is kept for the next time.

    Args:
        progress: Told of each step, with its time.

    Returns:
        The administrator's kubeconfig; its context is `debian`.

    Raises:
        WindsockError: This machine cannot do it, or a part did not come up.
    """
    packages.check_machine()
    with _alone(progress):
        kubectl.ensure(Commands(), progress)
        if state().ready:
            progress("Kubernetes is up already")
            return places.KUBECONFIG
        with _undone_on_failure(progress):
            _remove_cluster(progress)
            cleanup.check_no_other(Commands())
            _prepare(progress, with_kubernetes=True)
            _start(progress)
    return places.KUBECONFIG


def up_docker(progress: Progress) -> None:
    """Bring up docker and the stand-in images only: enough for building images."""
    packages.check_machine()
    with _alone(progress), _undone_on_failure(progress):
        _prepare(progress, with_kubernetes=False)


def down(progress: Progress, *, keep_docker: bool = False) -> None:
    """Stop the cluster and remove all of it but docker's images and the cache.

    Args:
        progress: Told of each step.
        keep_docker: Leave the docker engine running, if it is ours.
    """
    packages.check_machine()
    with _alone(progress):
        if not places.STATE.exists():
            progress("nothing is up")
            return
        _take_down(progress, keep_docker=keep_docker)


def restart_api_server() -> None:
    """Kill the API server and start it again; returns when it answers."""
    address = _address(Commands())
    with _alone(lambda _: None):
        DAEMONS.kill("apiserver")
        components.start_apiserver(DAEMONS, address)
        with api.connect(address) as client:
            _wait(lambda: api.is_ready(client), "an answer of the API server")


def restart_kubelet() -> None:
    """Kill the kubelet, which ends all streams into its pods, and start it again."""
    commands = Commands()
    with _alone(lambda _: None):
        DAEMONS.kill("kubelet")
        components.start_kubelet(DAEMONS, _address(commands), engine.cgroup_driver(commands))


def state() -> State:
    """What runs, and whether it is of use."""
    docker = bool(engine.DAEMONS.running())
    parts = tuple(DAEMONS.running())
    if not set(parts) >= PARTS or not engine.answers(Commands()):
        return State(docker, parts, ready=False)
    with api.connect(_address(Commands())) as client:
        return State(docker, parts, ready=api.is_ready(client) and _takes_pods(client))


def build(progress: Progress) -> None:
    """Compile Kubernetes into the cache, unless it is there; nothing is started."""
    packages.check_machine()
    with _alone(progress):
        commands = Commands()
        binaries.remove_scratch()
        if binaries.are_built():
            progress("Kubernetes is compiled already")
            return
        _install(commands, packages.TO_BUILD, progress)
        with _step(progress, f"compile Kubernetes {places.VERSION}"):
            binaries.build(commands)


def _install(commands: Commands, needed: Mapping[str, str], progress: Progress) -> None:
    missing = packages.missing(needed)
    if missing:
        with _step(progress, f"install {', '.join(missing)}"):
            packages.install(commands, missing)


def _prepare(progress: Progress, *, with_kubernetes: bool) -> None:
    commands = Commands()
    binaries.remove_scratch()
    build = with_kubernetes and not binaries.are_built()
    _install(commands, {**packages.TO_RUN, **(packages.TO_BUILD if build else {})}, progress)

    def docker() -> None:
        with _step(progress, "docker"):
            engine.start(commands)
        if not images.are_there(commands):
            with _step(progress, f"the images {images.BASE} (a stand-in) and {images.PAUSE}"):
                images.add_pause(commands)
                images.add_base(commands)

    def kubernetes() -> None:
        with _step(progress, f"compile Kubernetes {places.VERSION}"):
            binaries.build(commands)

    if build:
        progress(f"Kubernetes {places.VERSION} is compiled from source, once; about 4 minutes …")
    together(commands, docker, *([kubernetes] if build else []))


def _start(progress: Progress) -> None:
    commands = Commands()
    address = _address(commands)
    with _step(progress, "keys and certificates"):
        _make_folders()
        certificates.make(commands, address)
    with api.connect(address) as client:
        with _step(progress, "API server"):
            components.start_etcd(DAEMONS)
            components.start_apiserver(DAEMONS, address)
            _wait(lambda: api.is_ready(client), "an answer of the API server")
        with _step(progress, "node, storage and names"):
            components.start_controllers(DAEMONS)
            components.start_names(DAEMONS, address)
            components.start_kubelet(DAEMONS, address, engine.cgroup_driver(commands))
            components.start_proxy(DAEMONS)
            api.add_storage_class(client)
            _wait(lambda: _takes_pods(client), "a node that takes pods")


def _takes_pods(client: httpx.Client) -> bool:
    return api.node_is_ready(client) and (places.HOSTS / "default.kubernetes").exists()


def _make_folders() -> None:
    places.HOSTS.mkdir(parents=True, exist_ok=True)
    places.VOLUMES.mkdir(exist_ok=True)
    if not places.PROVISIONER_FOLDER.is_symlink():
        if places.PROVISIONER_FOLDER.exists():
            raise EnvironmentFailure(
                f"{places.PROVISIONER_FOLDER} exists", "Another cluster's volumes? Move it away."
            )
        places.PROVISIONER_FOLDER.symlink_to(places.VOLUMES)


def _wait(condition: Callable[[], bool], what: str) -> None:
    def fulfilled() -> bool:
        DAEMONS.check()
        return condition()

    wait_until(fulfilled, what)


def _take_down(progress: Progress, *, keep_docker: bool) -> None:
    _remove_cluster(progress)
    if keep_docker:
        return
    if engine.DAEMONS.running():
        with _step(progress, "stop docker"):
            engine.DAEMONS.stop()
    shutil.rmtree(places.STATE, ignore_errors=True)


def _remove_cluster(progress: Progress) -> None:
    """Stop the cluster, whole or in pieces, and leave docker as it is."""
    if not places.CLUSTER.exists():
        return
    commands = Commands()
    with _step(progress, "stop Kubernetes"):
        DAEMONS.stop()
    with _step(progress, "remove pods, mounts and packet filter rules"):
        if engine.answers(commands):
            cleanup.remove_containers(commands)
        cleanup.unmount(commands)
        cleanup.remove_rules(commands)
        cleanup.remove_control_groups()
        cleanup.remove_log_links()
        cleanup.remove_state()


@contextmanager
def _undone_on_failure(progress: Progress) -> Iterator[None]:
    """Stop what was started here, and leave docker as it was found."""
    docker_was_up = bool(engine.DAEMONS.running())
    try:
        yield
    except BaseException:
        progress("it failed; what was started is stopped …")
        _take_down(progress, keep_docker=docker_was_up)
        raise


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """One at a time: two that start or stop the same cluster would undo each other's work."""
    with places.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another command on this cluster …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _step(progress: Progress, title: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    except WindsockError:
        progress(f"✗ {title} ({time.monotonic() - started:.1f} s)")
        raise
    progress(f"✓ {title} ({time.monotonic() - started:.1f} s)")


def _address(commands: Commands) -> str:
    return engine.bridge_address(commands)
