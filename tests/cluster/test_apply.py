"""Applying, pruning, comparing and removing, on a real API server."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.room import (
    CLAIM,
    SLEEP,
    deployment,
    eventually,
    job,
    namespace,
    settings,
    silent,
    stateful_set,
    worker,
)
from windsock.cluster.apply import apply, is_applied
from windsock.cluster.client import MANAGED, Cluster
from windsock.cluster.difference import diff
from windsock.cluster.failures import Refusal
from windsock.cluster.removal import delete_all
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.cluster.room import Object

pytestmark = pytest.mark.cluster


@pytest.fixture
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        yield room


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
    before = room.get("apps/v1", "Deployment", "scheduler")
    wrong = deployment("scheduler", SLEEP, replicas=0, livenessProbe={"tcpSocket": {"port": 0}})
    with pytest.raises(Refusal, match="port"):
        apply(room, [wrong], progress=silent)
    assert room.get("apps/v1", "Deployment", "scheduler") == before


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


def test_what_cannot_be_changed_says_what_to_do(room: Cluster) -> None:
    before = stateful_set("postgres", SLEEP, replicas=0, claim=CLAIM)
    apply(room, [before], progress=silent)
    after = copy.deepcopy(before)
    after["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "128Mi"
    with pytest.raises(Refusal, match="StatefulSet postgres") as refused:
        apply(room, [after], progress=silent)
    assert "invoke down" in refused.value.hint


def test_an_object_the_server_does_not_understand_is_refused_with_its_words(room: Cluster) -> None:
    broken = settings(key="value")
    broken["data"]["key"] = {"not": "a string"}
    with pytest.raises(Refusal, match="apply ConfigMap settings"):
        apply(room, [broken], progress=silent)


def test_a_job_that_failed_is_tried_again(room: Cluster) -> None:
    failing = job("migrate", "raise SystemExit(3)")
    apply(room, [failing], progress=silent)

    def failed() -> bool:
        found = room.get("batch/v1", "Job", "migrate") or {"status": {}}
        return any(item["type"] == "Failed" for item in found["status"].get("conditions") or [])

    eventually(failed, "the Job has failed")
    assert apply(room, [failing], progress=silent).created == ("Job migrate",)


def test_removing_waits_until_pods_are_gone_and_keeps_volumes_and_what_others_made(
    room: Cluster,
) -> None:
    room.create({**settings(), "metadata": {"name": "theirs"}})
    apply(room, [deployment("scheduler", SLEEP), everything()[-1]], progress=silent)
    room.create(worker("task", SLEEP))
    eventually(lambda: len(room.items("v1", "Pod")) == 2, "both pods")
    delete_all(room, volumes=False, progress=silent)
    assert room.items("v1", "Pod") == []
    assert room.items("apps/v1", "Deployment") == []
    assert room.get("v1", "PersistentVolumeClaim", "dags") is not None
    delete_all(room, volumes=True, progress=silent)
    assert room.items("v1", "PersistentVolumeClaim") == []
    assert room.get("v1", "ConfigMap", "theirs") is not None


def test_the_namespace_goes_with_the_volumes_if_windsock_made_it(room: Cluster) -> None:
    apply(room, everything(), progress=silent)
    delete_all(room, volumes=True, progress=silent)
    assert room.get("v1", "Namespace", room.namespace) is None
