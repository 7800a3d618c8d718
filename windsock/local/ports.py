"""Choose the loopback ports of an environment, and remember them for the next time."""

from __future__ import annotations

import errno
import json
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.files import private_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

LOOPBACK = "127.0.0.1"
TRIES = 100
"""How many ports after the wanted one are looked at."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """The process that listens on a port, as far as this user may know it."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid}, {self.name}"


@dataclass(frozen=True, kw_only=True)
class PortChoice:
    """The port that one component gets.

    Attributes:
        name: The component, for example `api`.
        port: The port it gets.
        wanted: The port that was asked for.
        reason: Why it is another one; empty if it is not.
    """

    name: str
    port: int
    wanted: int
    reason: str = ""


def choose(
    wanted: Mapping[str, int],
    *,
    memory: Path,
    ours: Callable[[int], bool] = lambda _pid: False,
) -> dict[str, PortChoice]:
    """Choose a port for each name: the one of last time, else the wanted one, else the next free.

    A port is free if nothing listens there, or only a process of this very environment.

    Args:
        wanted: Name → port.
        memory: The file that `remember` wrote; it may not exist.
        ours: Whether a pid belongs to this environment.

    Raises:
        ConfigurationError: A wanted port needs rights that this user does not have.
        EnvironmentFailure: No port near the wanted one is free.
    """
    remembered = _remembered(memory)
    taken: set[int] = set()
    choices: dict[str, PortChoice] = {}
    for name, port in wanted.items():
        choice = _choose_one(name, port, last=remembered.get(name), taken=taken, ours=ours)
        taken.add(choice.port)
        choices[name] = choice
    return choices


def remember(choices: Mapping[str, PortChoice], *, memory: Path) -> None:
    """Write down which ports were chosen, for the next `choose`.

    Raises:
        EnvironmentFailure: The file cannot be written.
    """
    if choices != _remembered(memory):
        private_folder(memory.parent)
        values = {name: asdict(choice) for name, choice in choices.items()}
        write_whole(memory, json.dumps(values, indent=2) + "\n", mode=0o644)


def _choose_one(
    name: str,
    wanted: int,
    *,
    last: PortChoice | None,
    taken: set[int],
    ours: Callable[[int], bool],
) -> PortChoice:
    if (
        last is not None
        and last.wanted == wanted
        and last.port not in taken
        and _usable(last.port, ours)
    ):
        return last
    for port in range(wanted, min(wanted + TRIES, 65536)):
        if port not in taken and _usable(port, ours):
            reason = "" if port == wanted else _busy(wanted, taken)
            return PortChoice(name=name, port=port, wanted=wanted, reason=reason)
    raise EnvironmentFailure(
        f"no port is free for {name}: {_busy(wanted, taken)}, "
        f"and so are all up to {min(wanted + TRIES, 65536) - 1}",
        "End what listens there, or choose another port in invoke.yaml.",
    )


def _busy(port: int, taken: set[int]) -> str:
    if port in taken:
        return f"{port} is another component's"
    found = listener(port)
    return f"{port} is busy ({found})" if found else f"{port} is busy"


def _usable(port: int, ours: Callable[[int], bool]) -> bool:
    if is_free(port):
        return True
    found = listener(port)
    return found is not None and ours(found.pid)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now.

    Raises:
        ConfigurationError: The port is reserved for root.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # As the servers do: a connection that still lingers after a close must not count as busy.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except PermissionError as error:
            raise ConfigurationError(
                f"port {port} is reserved for root", "Choose one above 1023 in invoke.yaml."
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise EnvironmentFailure(
                f"port {port} cannot be used: {error}", "Choose another one in invoke.yaml."
            ) from error
    if sys.platform == "linux":
        return True
    # On BSD and macOS a bind succeeds even if a server listens on all interfaces.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) != 0


def listener(port: int) -> Listener | None:
    """The process that listens on `port`, if this user may know it."""
    pids: list[int] = []
    try:
        pids = [
            item.pid
            for item in psutil.net_connections(kind="tcp")
            if item.pid and _listens(item, port)
        ]
    except psutil.AccessDenied:  # macOS shows only one's own processes, one by one
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                pids += [
                    process.pid
                    for item in process.net_connections(kind="tcp")
                    if _listens(item, port)
                ]
    for pid in pids:
        with suppress(psutil.Error):
            return Listener(pid=pid, name=psutil.Process(pid).name())
    return None


def _listens(connection: Any, port: int) -> bool:
    return bool(
        connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == port
    )


def _remembered(memory: Path) -> dict[str, PortChoice]:
    """What `remember` wrote; nothing if the file is gone or damaged."""
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
        return {
            name: PortChoice(
                name=name,
                port=int(item["port"]),
                wanted=int(item["wanted"]),
                reason=str(item["reason"]),
            )
            for name, item in values.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
