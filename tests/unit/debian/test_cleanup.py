"""What the test bed takes away, and where it does not come up because it would take too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.debian import cleanup
from tests.cluster.debian.cleanup import without_kubernetes
from tests.unit.debian.recorded import Recorded
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\nCOMMIT\n"
OF_A_KUBERNETES = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\nCOMMIT\n"


def test_a_machine_without_kubernetes_is_fit_for_the_test_bed() -> None:
    machine = Recorded({"docker": "", "iptables-save": CLEAN, "ip6tables-save": CLEAN})
    cleanup.check_no_other(machine)


def test_a_machine_without_docker_and_iptables_is_fit_as_well() -> None:
    cleanup.check_no_other(Recorded({}))


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"docker": "aaaa\nbbbb\n"}, "2 containers of pods"),
        ({"iptables-save": OF_A_KUBERNETES}, "`iptables-save"),
        ({"iptables-save": CLEAN, "ip6tables-save": OF_A_KUBERNETES}, "`ip6tables-save"),
    ],
    ids=["pods", "rules", "rules of IPv6"],
)
def test_it_does_not_come_up_beside_another_kubernetes(there: dict[str, str], told: str) -> None:
    with pytest.raises(EnvironmentFailure, match="another Kubernetes") as refused:
        cleanup.check_no_other(Recorded(there))
    assert told in refused.value.message


def test_empty_control_groups_of_pods_go_and_those_of_a_node_in_a_container_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [tmp_path / "kubepods" / "besteffort", tmp_path / "memory" / "kubepods" / "burstable"]
    theirs = tmp_path / "docker" / "0123abcd" / "kubelet" / "kubepods"
    for folder in (*ours, theirs):
        folder.mkdir(parents=True)
    monkeypatch.setattr(cleanup, "CONTROL_GROUPS", tmp_path)
    cleanup.remove_control_groups()
    assert not any(folder.parent.exists() for folder in ours)
    assert theirs.exists()


def test_packet_filter_rules_of_others_stay() -> None:
    rules = """*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
"""
    assert (
        without_kubernetes(rules)
        == """*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
"""
    )
