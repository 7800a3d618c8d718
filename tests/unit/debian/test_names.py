"""What cluster DNS tells of Services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cluster.debian.names import Zone, follow, publish, records

if TYPE_CHECKING:
    from pathlib import Path


def service(name: str, address: str = "10.96.0.7", **spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": address, **spec},
    }


def endpoints(name: str, *addresses: dict[str, str], ready: bool = True) -> dict[str, Any]:
    kind = "addresses" if ready else "notReadyAddresses"
    return {"metadata": {"name": name, "namespace": "shop"}, "subsets": [{kind: list(addresses)}]}


def test_a_service_has_its_cluster_address() -> None:
    assert records({"shop.web": service("web")}, {}) == {
        "shop.web": "10.96.0.7 web.shop.svc.cluster.local\n"
    }


def test_a_headless_service_leads_to_each_ready_pod_and_names_those_with_a_hostname() -> None:
    ready = endpoints("db", {"ip": "172.17.0.5", "hostname": "db-0"}, {"ip": "172.17.0.4"})
    assert records({"shop.db": service("db", "None")}, {"shop.db": ready})["shop.db"] == (
        "172.17.0.4 db.shop.svc.cluster.local\n"
        "172.17.0.5 db.shop.svc.cluster.local db-0.db.shop.svc.cluster.local\n"
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_a_pod_that_is_not_ready_is_told_only_if_the_service_says_so(*, wanted: bool) -> None:
    headless = service("db", "None", publishNotReadyAddresses=wanted)
    waiting = endpoints("db", {"ip": "172.17.0.5"}, ready=False)
    told = records({"shop.db": headless}, {"shop.db": waiting})["shop.db"]
    assert told == ("172.17.0.5 db.shop.svc.cluster.local\n" if wanted else "")


def test_a_headless_service_without_pods_has_no_address() -> None:
    empty = {"metadata": {"name": "db", "namespace": "shop"}, "subsets": None}
    assert records({"shop.db": service("db", "None")}, {"shop.db": empty}) == {"shop.db": ""}


def test_a_service_without_an_address_has_no_name() -> None:
    assert records({"shop.far": service("far", "", type="ExternalName")}, {}) == {}


def test_the_folder_holds_what_is_published_and_no_more(tmp_path: Path) -> None:
    publish(tmp_path, {"shop.web": "1\n", "shop.db": "2\n"})
    kept = (tmp_path / "shop.web").stat()
    publish(tmp_path, {"shop.web": "1\n", "shop.new": "3\n"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "shop.web": "1\n",
        "shop.new": "3\n",
    }
    assert (tmp_path / "shop.web").stat() == kept  # dnsmasq is not told of what did not change


def test_nothing_is_told_until_services_and_endpoints_are_known(tmp_path: Path) -> None:
    (tmp_path / "shop.web").write_text("from before\n")
    zone = Zone(tmp_path)
    zone.replace("services", [])
    assert (tmp_path / "shop.web").exists()
    zone.replace("endpoints", [])
    assert not (tmp_path / "shop.web").exists()


def test_a_watch_takes_the_list_then_each_change_until_it_ends(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            items = [service("web"), service("old")]
            return httpx.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": items})
        assert request.url.params["resourceVersion"] == "7"
        events = (
            b'{"type": "DELETED", "object": {"metadata": {"name": "old", "namespace": "shop"}}}\n'
            b'{"type": "ADDED", "object": {"metadata": {"name": "new", "namespace": "shop"},'
            b' "spec": {"clusterIP": "10.96.0.9"}}}\n'
            b'{"type": "ERROR", "object": {"code": 410}}\n'
        )
        return httpx.Response(200, content=events)

    zone = Zone(tmp_path)
    zone.replace("endpoints", [])
    with httpx.Client(base_url="http://api", transport=httpx.MockTransport(answer)) as client:
        follow(client, zone, "services")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.new", "shop.web"]
