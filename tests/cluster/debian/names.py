"""Cluster DNS: a file of dnsmasq's `--hostsdir` for each Service, kept current by a watch.

`python -m tests.cluster.debian.names ADDRESS` runs for as long as the cluster does. A Service's
name leads to its cluster address; that of a headless one to its ready pods, each of which has a
name of its own where it has a hostname, as those of a StatefulSet do. Services of type
ExternalName have no address, and get no name here.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx

from tests.cluster.debian import api, places

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DOMAIN = "svc.cluster.local"
RENEWAL = 300
"""Seconds until a watch begins anew, so that nothing that it might have missed stays missed."""

PAUSE = 0.5
"""Seconds between attempts while the API server is away."""


def records(
    services: Mapping[str, Mapping[str, Any]], endpoints: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The hosts files of these objects.

    Args:
        services: By `namespace.name`.
        endpoints: The same.

    Returns:
        Lines of `ADDRESS NAME`, by file name, which is `namespace.name`.
    """
    found = {}
    for key, service in services.items():
        name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.{DOMAIN}"
        address = service["spec"].get("clusterIP")
        if address == "None":
            found[key] = _pods(name, service, endpoints.get(key, {}))
        elif address:
            found[key] = f"{address} {name}\n"
    return found


def _pods(name: str, service: Mapping[str, Any], endpoints: Mapping[str, Any]) -> str:
    lines = []
    for subset in endpoints.get("subsets") or []:
        addresses = list(subset.get("addresses") or [])
        if service["spec"].get("publishNotReadyAddresses"):
            addresses += subset.get("notReadyAddresses") or []
        for address in addresses:
            hostname = address.get("hostname")
            own = f" {hostname}.{name}" if hostname else ""
            lines.append(f"{address['ip']} {name}{own}\n")
    return "".join(sorted(set(lines)))


def publish(folder: Path, files: Mapping[str, str]) -> None:
    """Make a folder hold these files and no others; dnsmasq sees each appear whole."""
    for path in folder.iterdir():
        if path.name not in files and not path.name.startswith("."):
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if path.exists() and path.read_text() == text:
            continue
        new = folder / f".{name}"  # dnsmasq passes over what begins with a dot
        new.write_text(text)
        new.rename(path)


class Zone:
    """What is known of the cluster, and the folder that tells it.

    Args:
        folder: Of hosts files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Mapping[str, Any]]] = {}

    def replace(self, kind: str, objects: list[Mapping[str, Any]]) -> None:
        """Take all objects of a kind (`services`, `endpoints`) as they are now."""
        with self._lock:
            self._known[kind] = {_key(each): each for each in objects}
            self._publish()

    def change(self, kind: str, event: str, changed: Mapping[str, Any]) -> None:
        """Take one event of a watch: ADDED, MODIFIED or DELETED."""
        with self._lock:
            if event == "DELETED":
                self._known[kind].pop(_key(changed), None)
            else:
                self._known[kind][_key(changed)] = changed
            self._publish()

    def _publish(self) -> None:
        if len(self._known) == 2:  # Half of the truth would be told as if it were all of it.
            publish(self._folder, records(self._known["services"], self._known["endpoints"]))


def _key(listed: Mapping[str, Any]) -> str:
    return f"{listed['metadata']['namespace']}.{listed['metadata']['name']}"


def follow(client: httpx.Client, zone: Zone, kind: str) -> None:
    """List the objects of a kind, then take their changes, until the watch ends."""
    path = f"/api/v1/{kind}"
    listing = client.get(path).raise_for_status().json()
    zone.replace(kind, listing["items"])
    parameters: dict[str, str | int] = {
        "watch": 1,
        "resourceVersion": listing["metadata"]["resourceVersion"],
        "timeoutSeconds": RENEWAL,
    }
    with client.stream("GET", path, params=parameters, timeout=RENEWAL + 30) as answer:
        for line in answer.raise_for_status().iter_lines():
            event = json.loads(line)
            if event["type"] == "ERROR":  # the version is gone: list again
                return
            zone.change(kind, event["type"], event["object"])


def main(address: str) -> None:
    """Follow Services and Endpoints for ever."""
    zone = Zone(places.HOSTS)

    def follow_again(kind: str) -> None:
        while True:
            try:
                follow(client, zone, kind)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                print(f"{kind}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - its log
                threading.Event().wait(PAUSE)

    with api.connect(address) as client:
        threads = [
            threading.Thread(target=follow_again, args=(kind,))
            for kind in ("services", "endpoints")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
