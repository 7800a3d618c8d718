"""How each part of Kubernetes is started: all on one machine, reachable from it and its pods only.

What listens, listens on loopback, or on docker's bridge where pods must reach it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.debian import binaries, places
from tests.cluster.debian.certificates import certificate, key, kubeconfig
from tests.cluster.debian.images import PAUSE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.debian.daemons import Daemons

ETCD = "http://127.0.0.1:12379"
ETCD_PEERS = "http://127.0.0.1:12380"
SERVICES = "10.96.0.0/16"


def start_etcd(daemons: Daemons) -> None:
    """The database: nothing in it outlives the cluster, so it need not reach the disk."""
    daemons.start(
        "etcd",
        "etcd",
        *("--data-dir", places.CLUSTER / "etcd", "--unsafe-no-fsync"),
        *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
        *("--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS),
        *("--initial-cluster", f"default={ETCD_PEERS}"),
    )


def start_apiserver(daemons: Daemons, address: str) -> None:
    """The API server, with RBAC, on docker's bridge."""
    daemons.start(
        "apiserver",
        binaries.folder() / "kube-apiserver",
        *("--etcd-servers", ETCD),
        *("--bind-address", address, "--advertise-address", address),
        *("--secure-port", str(places.API_PORT)),
        *("--tls-cert-file", certificate("apiserver"), "--tls-private-key-file", key("apiserver")),
        *("--client-ca-file", certificate("ca"), "--cert-dir", places.PKI),
        *("--service-account-key-file", places.PKI / "tokens.pub"),
        *("--service-account-signing-key-file", key("tokens")),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-cluster-ip-range", SERVICES),
        *("--authorization-mode", "Node,RBAC"),
        "--allow-privileged",
        *("--kubelet-client-certificate", certificate("admin")),
        *("--kubelet-client-key", key("admin")),
        *("--kubelet-certificate-authority", certificate("ca")),
        # By name it would need an entry in the machine's /etc/hosts.
        *("--kubelet-preferred-address-types", "InternalIP"),
    )


def start_controllers(daemons: Daemons) -> None:
    """The controller manager and the scheduler."""
    daemons.start(
        "controller-manager",
        binaries.folder() / "kube-controller-manager",
        *("--kubeconfig", kubeconfig("controller-manager"), "--use-service-account-credentials"),
        *("--service-account-private-key-file", key("tokens")),
        *("--root-ca-file", certificate("ca")),
        *("--cluster-signing-cert-file", certificate("ca")),
        *("--cluster-signing-key-file", key("ca")),
        *("--bind-address", "127.0.0.1", "--port", "0", "--leader-elect=false"),
        *("--kube-api-qps", "50", "--kube-api-burst", "100"),
        "--enable-hostpath-provisioner",
        umask=0,  # The folders of volumes are for all to write.
    )
    daemons.start(
        "scheduler",
        binaries.folder() / "kube-scheduler",
        *("--kubeconfig", kubeconfig("scheduler"), "--leader-elect=false"),
        *("--bind-address", "127.0.0.1", "--port", "0"),
    )


def start_names(daemons: Daemons, address: str) -> None:
    """Cluster DNS: dnsmasq, and what tells it of Services."""
    daemons.start(
        "dnsmasq",
        *("dnsmasq", "--keep-in-foreground", "--log-facility=-"),
        *("--conf-file=/dev/null", "--pid-file=", "--no-hosts"),
        *(f"--listen-address={address}", "--bind-interfaces"),
        *(f"--hostsdir={places.HOSTS}", "--local=/cluster.local/"),
    )
    daemons.start(
        "names",
        *(sys.executable, "-m", "tests.cluster.debian.names", address),
        environment={"PYTHONPATH": str(places.REPOSITORY)},
    )


def start_kubelet(daemons: Daemons, address: str, cgroup_driver: str) -> None:
    """What runs the node's pods."""
    daemons.start(
        "kubelet",
        binaries.folder() / "kubelet",
        *("--kubeconfig", kubeconfig("kubelet")),
        *("--config", _write("kubelet", kubelet_configuration(address, cgroup_driver))),
        *("--hostname-override", places.NODE, "--node-ip", address, "--network-plugin="),
        *("--pod-infra-container-image", PAUSE),
        *("--root-dir", places.CLUSTER / "kubelet"),
        *("--volume-plugin-dir", places.CLUSTER / "volume-plugins"),
        *("--experimental-dockershim-root-directory", places.CLUSTER / "dockershim"),
    )


def start_proxy(daemons: Daemons) -> None:
    """What leads to the pods behind a Service."""
    daemons.start(
        "proxy",
        binaries.folder() / "kube-proxy",
        *("--config", _write("proxy", proxy_configuration())),
    )


def kubelet_configuration(address: str, cgroup_driver: str) -> dict[str, Any]:
    """What the kubelet reads: quick with volumes, and never short of disk in its own eyes."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "readOnlyPort": 0,
        "clusterDNS": [address],
        "clusterDomain": "cluster.local",
        "cgroupDriver": cgroup_driver,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # less needs CAP_SYS_RESOURCE
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate("kubelet")),
        "tlsPrivateKeyFile": str(key("kubelet")),
        # It asks the API server for each volume of each pod; at the default of 5 a second a
        # handful of pods that start together wait for each other's.
        "kubeAPIQPS": 50,
        "kubeAPIBurst": 100,
        # A pod whose deletion was missed once is looked at again after this, not after a minute.
        "syncFrequency": "10s",
        # The images cannot be pulled again, so none may be collected.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # Their sockets would be outside the state folder, fixed in the source.
        "featureGates": {"DevicePlugins": False},
    }


def proxy_configuration() -> dict[str, Any]:
    """What kube-proxy reads."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig("proxy"))},
        "mode": "iptables",
        "hostnameOverride": places.NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": ["127.0.0.0/8"],
        "oomScoreAdj": 0,
        # The machine's limits of tracked connections are not ours to change.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _write(name: str, configuration: dict[str, Any]) -> Path:
    path = places.CLUSTER / f"{name}.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return path
