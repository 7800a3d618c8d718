"""Applying and comparing: the same cases on a fake and on a real API server (tests/cluster)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.room import CLAIM, SLEEP, deployment, settings, silent, stateful_set
from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.failures import Refusal
from windsock.cluster.manifests import inventory
from windsock.cluster.manifests.apply import apply, is_applied
from windsock.cluster.manifests.difference import diff
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from tests.cluster.room import Object
    from windsock.cluster.api.client import Cluster


def everything() -> list[Object]:
    """One object of each kind that the manifests use; nothing that starts a pod."""
    labels = dict(MANAGED)
    one = deployment("scheduler", SLEEP, replicas=0)
    one["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 8080}]
    rbac = "rbac.authorization.k8s.io"
    return [
        one,
        stateful_set("postgres", SLEEP, replicas=0, claim=CLAIM),
        settings(key="value"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "api", "labels": labels},
            "spec": {"selector": {"a": "b"}, "ports": [{"port": 8080, "targetPort": "http"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "airflow", "labels": labels},
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "airflow", "labels": labels},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "airflow", "labels": labels},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "airflow"},
            "subjects": [{"kind": "ServiceAccount", "name": "airflow"}],
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "postgres", "labels": labels},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "dags", "labels": labels},
            "spec": CLAIM,
        },
    ]


def test_everything_is_created_once_and_then_unchanged(room: Cluster) -> None:
    first = apply(room, everything(), progress=silent)
    assert len(first.created) == len(everything())
    told: list[str] = []
    second = apply(room, everything(), progress=told.append)
    assert len(second.unchanged) == len(everything())
    assert str(second) == "nothing changed"
    assert diff(room, everything()) == []


def test_a_change_of_somebody_else_is_seen_and_taken_back(room: Cluster) -> None:
    apply(room, [settings(key="value")], progress=silent)
    room.patch(settings(), {"data": {"key": "theirs"}})
    [(name, text)] = diff(room, [settings(key="value")])
    assert name == "ConfigMap settings"
    assert "-  key: theirs\n+  key: value" in text
    assert apply(room, [settings(key="value")], progress=silent).changed == ("ConfigMap settings",)
    found = room.get("v1", "ConfigMap", "settings")
    assert found is not None
    assert found["data"] == {"key": "value"}


def test_what_somebody_else_applied_is_not_ours(room: Cluster) -> None:
    assert not is_applied(room, settings(key="value"))
    apply(room, [settings(key="value")], progress=silent)
    assert is_applied(room, settings(key="value"))
    apply(room, [settings(key="theirs")], progress=silent)
    assert not is_applied(room, settings(key="value"))


def test_a_field_that_is_no_longer_rendered_goes(room: Cluster) -> None:
    apply(room, [settings(one="1", two="2")], progress=silent)
    assert apply(room, [settings(one="1")], progress=silent).changed
    found = room.get("v1", "ConfigMap", "settings")
    assert found is not None
    assert found["data"] == {"one": "1"}


PROBES: tuple[dict[str, Any], ...] = (
    {"httpGet": {"path": "/", "port": 80}},
    {"tcpSocket": {"port": 80}},
    {"exec": {"command": ["true"]}},
)


def test_a_probe_may_become_one_of_another_kind_or_go(room: Cluster) -> None:
    for number in range(2 * len(PROBES)):
        probe = PROBES[number % len(PROBES)]
        for more in ({"readinessProbe": probe}, {}, {"livenessProbe": probe}):
            item = deployment("scheduler", SLEEP, replicas=0, **more)
            apply(room, [item], progress=silent)
            assert apply(room, [item], progress=silent).unchanged == ("Deployment scheduler",)
    for probe in PROBES:
        item = deployment("scheduler", SLEEP, replicas=0, readinessProbe=probe)
        assert apply(room, [item], progress=silent).changed == ("Deployment scheduler",)
        assert diff(room, [item]) == []


def test_a_probe_that_is_wrong_by_itself_is_refused_and_nothing_changes(room: Cluster) -> None:
    apply(
        room, [deployment("scheduler", SLEEP, replicas=0, livenessProbe=PROBES[0])], progress=silent
    )
    before = _applied(room)
    wrong = deployment("scheduler", SLEEP, replicas=0, livenessProbe={"tcpSocket": {"port": 0}})
    with pytest.raises(Refusal, match="port"):
        apply(room, [wrong], progress=silent)
    assert _applied(room) == before


def _applied(room: Cluster) -> Any:
    """What an apply could change: neither its state nor the notes of controllers."""
    item = room.get("apps/v1", "Deployment", "scheduler")
    assert item is not None
    return inventory.visible(item)


def test_a_comparison_tells_of_a_probe_that_becomes_one_of_another_kind_and_changes_nothing(
    room: Cluster,
) -> None:
    http = deployment("scheduler", SLEEP, replicas=0, livenessProbe=PROBES[0])
    tcp = deployment("scheduler", SLEEP, replicas=2, livenessProbe=PROBES[1])
    apply(room, [http], progress=silent)
    [(name, text)] = diff(room, [tcp])
    changed = {" ".join(line.split()) for line in text.splitlines() if line[:1] in "+-"}
    assert name == "Deployment scheduler"
    assert {"- replicas: 0", "+ replicas: 2", "- httpGet:", "+ tcpSocket:"} <= changed
    assert apply(room, [http], progress=silent).unchanged == ("Deployment scheduler",)


def test_a_comparison_refuses_a_probe_that_is_wrong_by_itself(room: Cluster) -> None:
    apply(
        room, [deployment("scheduler", SLEEP, replicas=0, livenessProbe=PROBES[0])], progress=silent
    )
    wrong = deployment("scheduler", SLEEP, replicas=0, livenessProbe={"tcpSocket": {"port": 0}})
    with pytest.raises(Refusal, match="port"):
        diff(room, [wrong])


def test_an_apply_that_is_interrupted_is_completed_by_the_next_one(room: Cluster) -> None:
    claim = everything()[-1]
    apply(room, [claim], progress=silent)  # It stays, whatever is pruned.
    others = len(everything()) - 1
    for reached in range(others):
        told: list[str] = []

        def interrupt(name: str, told: list[str] = told, reached: int = reached) -> None:
            told.append(name)
            if len(told) > reached:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            apply(room, everything(), progress=interrupt)
        done = apply(room, everything(), progress=silent)
        assert len(done.created) == others - reached
        assert diff(room, everything()) == []
        assert len(apply(room, [claim], progress=silent).pruned) == others


def test_a_comparison_changes_nothing(room: Cluster) -> None:
    [(name, text)] = diff(room, [settings(key="value")])
    assert (name, "+  key: value" in text) == ("ConfigMap settings", True)
    assert room.get("v1", "ConfigMap", "settings") is None


def test_what_is_no_longer_rendered_is_pruned_but_volumes_are_not(room: Cluster) -> None:
    claim = everything()[-1]
    theirs = {**settings("theirs"), "metadata": {"name": "theirs"}}
    room.create(theirs)
    apply(room, [settings("old"), settings("new"), claim], progress=silent)
    assert [name for name, _ in diff(room, [settings("new")])] == ["ConfigMap old"]
    done = apply(room, [settings("new")], progress=silent)
    assert done.pruned == ("ConfigMap old",)
    assert room.get("v1", "PersistentVolumeClaim", "dags") is not None
    assert room.get("v1", "ConfigMap", "theirs") is not None


def test_a_kind_that_is_not_served_is_named_before_anything_is_applied(room: Cluster) -> None:
    unknown = {
        "apiVersion": "windsock.dev/v1",
        "kind": "Weathercock",
        "metadata": {"name": "cock"},
    }
    with pytest.raises(EnvironmentFailure, match=r"Weathercock cock \(windsock.dev/v1\)"):
        apply(room, [settings(), unknown], progress=silent)
    assert room.get("v1", "ConfigMap", "settings") is None
    with pytest.raises(EnvironmentFailure, match=r"Weathercock cock \(windsock.dev/v1\)"):
        diff(room, [settings(), unknown])
    assert len(diff(room, [settings(), unknown], skip_unserved=True)) == 1
    done = apply(room, [settings(), unknown], progress=silent, skip_unserved=True)
    assert (done.created, done.skipped) == (("ConfigMap settings",), ("Weathercock cock",))


def test_what_somebody_else_made_is_not_taken_over(room: Cluster) -> None:
    room.create({**settings(theirs="1"), "metadata": {"name": "settings"}})
    with pytest.raises(EnvironmentFailure, match="was not made by windsock"):
        apply(room, [settings(key="value"), settings("other")], progress=silent)
    assert room.get("v1", "ConfigMap", "other") is None


def test_an_object_of_the_whole_cluster_is_refused(room: Cluster) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "windsock-never"},
    }
    with pytest.raises(ConfigurationError, match="belongs to the whole cluster"):
        apply(room, [role], progress=silent)
