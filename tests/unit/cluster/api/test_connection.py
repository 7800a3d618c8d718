"""What comes over the real connection when a server answers, refuses, talks nonsense or is gone."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.unit.cluster.fake_api import CONTEXT
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.connection import TCP_OPTIONS, Connection
from windsock.cluster.api.failures import ClusterUnreachable, Refusal
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cluster.fake_api import FakeApi

VERSION = "/version"


@pytest.fixture
def connection(api: FakeApi) -> Connection:
    return api.cluster().connection


def ask(connection: Connection) -> str:
    return str(connection.request("GET", VERSION, doing="tell its version")["gitVersion"])


def test_the_kernel_looks_for_the_other_side_of_a_quiet_connection(
    api: FakeApi, connection: Connection
) -> None:
    ask(connection)
    server = urlsplit(api.url).port
    found = [
        each.fd for each in psutil.Process().net_connections("tcp4") if each.raddr[1:] == (server,)
    ]
    with socket.socket(fileno=os.dup(found[0])) as kept:
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle = kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert idle == TCP_OPTIONS["TCP_KEEPIDLE"]


def test_a_stream_that_says_nothing_for_too_long_is_broken(
    api: FakeApi, connection: Connection
) -> None:
    query = {"watch": "1", "resourceVersion": "0"}
    stream = connection.stream("/api/v1/pods", doing="watch Pod", query=query, silence=0.05)
    with pytest.raises(ClusterUnreachable, match="timed out"):
        list(stream)
    assert api.asked == ["WATCH /api/v1/pods"]


def test_a_watch_may_be_quiet_as_long_as_it_lasts(connection: Connection) -> None:
    waited: list[float] = []
    watched: Any = SimpleNamespace(
        context=CONTEXT,
        server=connection.server,
        request=connection.request,
        stream=lambda *_, silence, **__: waited.append(silence),
    )
    Cluster(watched, namespace="room").watch("v1", "Pod", version="1", selector="", seconds=300)
    assert [300 < seconds < 330 for seconds in waited] == [True]


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_a_refusal_also_where_it_says_when_to_come_back(
    api: FakeApi, connection: Connection, code: int
) -> None:
    api.answer("GET", VERSION, code, "too many requests", Retry_After="1")
    with pytest.raises(Refusal, match="too many requests") as refused:
        ask(connection)
    assert (refused.value.code, refused.value.passes) == (code, True)
    assert ask(connection)
    assert len(api.asked) == 2


def test_a_sign_in_page_is_told_as_one(api: FakeApi, connection: Connection) -> None:
    api.answer("GET", VERSION, 200, b"<html>Sign in</html>")
    with pytest.raises(EnvironmentFailure, match="does not speak Kubernetes") as failed:
        ask(connection)
    assert "sign-in page" in failed.value.hint


@pytest.mark.parametrize("code", [200, 503])
def test_an_answer_that_is_cut_off_is_a_broken_connection(
    api: FakeApi, connection: Connection, code: int
) -> None:
    api.answer("GET", VERSION, code, b"{", times=5, cut=True)
    with pytest.raises(ClusterUnreachable):
        ask(connection)


def test_an_open_stream_that_is_refused_and_cut_off_is_a_broken_connection(
    api: FakeApi, connection: Connection
) -> None:
    api.answer("GET", VERSION, 503, b"{", cut=True)
    with pytest.raises(ClusterUnreachable):
        connection.stream(VERSION, doing="look", query={}, silence=5)


def test_a_server_that_is_gone_is_named_with_its_context(api: FakeApi) -> None:
    connection = api.cluster().connection
    connection.server = "http://127.0.0.1:1"
    with pytest.raises(ClusterUnreachable, match=f"context {CONTEXT} does not answer at http"):
        ask(connection)


def test_a_context_that_cannot_be_used_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"contexts: [{{name: {CONTEXT}, context: {{cluster: missing, user: u}}}}]")
    with pytest.raises(ConfigurationError, match=f"context {CONTEXT} cannot be used"):
        Connection.open(context=CONTEXT, kubeconfig=str(file))


def test_closing_a_stream_wakes_who_reads_it(connection: Connection) -> None:
    query = {"watch": "1", "resourceVersion": "0"}
    stream = connection.stream("/api/v1/pods", doing="watch Pod", query=query, silence=60)
    stream.close()
    assert list(stream) == []


def test_a_last_line_without_an_end_is_a_line(api: FakeApi, connection: Connection) -> None:
    api.answer("GET", "/log$", 200, b"one\ntwo")
    path = "/api/v1/namespaces/room/pods/a/log"
    stream = connection.stream(path, doing="show the log", query={}, silence=60)
    assert list(stream) == [b"one", b"two"]
