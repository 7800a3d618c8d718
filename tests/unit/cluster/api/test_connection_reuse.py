"""Connections that wait in the pool, servers that never answer, and ways to sign in."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from kubernetes.client import Configuration

from windsock.cluster.api.connection import Connection
from windsock.cluster.api.failures import ClusterUnreachable

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi


def test_who_cannot_wait_learns_soon_that_nobody_answers(api: FakeApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and answers nothing
        hurried = api.cluster().within(0.05)
        hurried.connection.server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match="does not answer"):
            hurried.version()


def test_connections_that_wait_in_the_pool_are_not_used_after_a_cut(api: FakeApi) -> None:
    cluster = api.cluster()
    for _ in range(2):
        cluster.version()
    assert api.connections == 1
    cluster.connection.drop_idle()
    cluster.version()
    assert api.connections == 2


def test_a_sign_in_that_fails_is_a_cluster_that_does_not_answer(api: FakeApi) -> None:
    def fail(_: object) -> None:
        raise urllib3.exceptions.HTTPError("login.example does not answer")

    configuration: Any = Configuration(host=api.url)
    configuration.refresh_api_key_hook = fail
    pool = urllib3.PoolManager()
    signing_in = Connection(configuration, pool, context="lab", kubeconfig=None)
    with pytest.raises(
        ClusterUnreachable, match=r"context lab cannot sign in: login\.example"
    ) as failed:
        signing_in.request("GET", "/", doing="look")
    assert "kubectl --context lab" in failed.value.hint
    with pytest.raises(ClusterUnreachable, match="cannot sign in"):
        signing_in.websocket("/", doing="look", query=[])
    assert api.connections == 0
