"""The pictures of the documentation, drawn from what is real: a session and measured numbers."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.text import Text

from dev import plots
from dev.benchmarks.environment import BenchEnvironment, workplace
from windsock.errors import DeadlineExceeded
from windsock.model import Environment
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SESSION = PICTURES / "session.svg"
PERFORMANCE = ROOT / "docs" / "performance.md"

COLUMNS = 92
PATIENCE = 300.0
"""Seconds until a line must be there."""

SAVED = "sales.py"
TEST = ("tests/dags/test_sales.py", "-k", "without_orders")


class Terminal:
    """A command on a pseudo-terminal, and what it shows.

    Args:
        arguments: Of `invoke`.
        variables: All environment variables of the command.
        folder: Where it runs; it finds the project itself.
    """

    def __init__(self, *arguments: str, variables: Mapping[str, str], folder: Path) -> None:
        self._came = threading.Condition()
        self._shown = bytearray()
        self._ended = False
        self._ours, theirs = pty.openpty()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "invoke", f"--search-root={ROOT}", *arguments],
            cwd=folder,
            env={
                **variables,
                "TERM": "xterm-256color",
                "COLUMNS": str(COLUMNS),
                "NO_COLOR": "",
                "TTY_INTERACTIVE": "0",  # No spinner: a picture does not move.
            },
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        part = b"."
        while part:
            try:
                part = os.read(self._ours, 4096)
            except OSError:  # Linux answers so when the other end is closed.
                part = b""
            with self._came:
                self._shown += part
                self._ended = not part
                self._came.notify_all()

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._reader.join()
        os.close(self._ours)

    @property
    def shown(self) -> str:
        """What the command has shown so far, with the codes of its colours."""
        text = self._shown.decode(errors="replace").replace("\r\n", "\n")
        return re.sub(r"\x1b\[\?\d+[hl]", "", text)

    def wait_for(self, pattern: str) -> None:
        """Wait until the pattern is found in what the command has shown, without colours.

        Raises:
            DeadlineExceeded: It was not found in time.
        """

        def came() -> bool:
            return re.search(pattern, Text.from_ansi(self.shown).plain) is not None

        with self._came:
            self._came.wait_for(lambda: self._ended or came(), PATIENCE)
            if not came():
                raise DeadlineExceeded(f"no {pattern!r} in {PATIENCE:.0f} s in:\n{self.shown}")

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        os.killpg(self._child.pid, signal.SIGINT)
        self.end()

    def end(self) -> None:
        """Wait for the end of the command."""
        self._child.wait(PATIENCE)
        self._reader.join()


def session(home: Path, variables: Mapping[str, str]) -> str:
    """A save, a broken save and a test, as a terminal shows them.

    Args:
        home: Has the folders `dags` and `state` of an environment that is up.
        variables: All environment variables of its commands.

    Returns:
        Lines with the codes of their colours; they name neither this machine's folders nor ports.
    """
    file = home / "dags" / SAVED
    source = file.read_text(encoding="utf-8")
    control = ControlClient(Environment.load(home / "state").control_socket)

    def save(text: str, shows: str) -> None:
        control.barrier(timeout=PATIENCE)
        fresh = file.with_name(".saved")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
        up.wait_for(shows)

    with Terminal("up", variables=variables, folder=home) as up:
        up.wait_for("watching for saves")
        save(f"{source}\n# Orders of a day.\n", r"✓ dags/sales\.py")
        save(f"{source}\nimport pandsa\n", r"import pandsa")
        save(source, r"import pandsa[^✓]*✓ dags/sales\.py")
        shown = f"\x1b[1m$ invoke up\x1b[0m\n{up.shown}\n"
        up.interrupt()
    with Terminal("test", *TEST, variables=variables, folder=home) as test:
        test.end()
        shown += f"\x1b[1m$ invoke test {' '.join(TEST)}\x1b[0m\n{test.shown}"
    shown = shown.replace(str(home), "~/shop").replace(str(ROOT), "~/windsock")
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", shown)


def drawn(shown: str) -> str:
    """A terminal as SVG, which needs no font or other file from anywhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(shown.rstrip()))
    svg = console.export_svg(title="windsock", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)


def words(svg: str) -> list[str]:
    """The lines of a drawn terminal, without what differs from one machine to the next."""
    lines: dict[str, str] = {}
    for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314 - our own file
        line, shown = text.get("clip-path"), (text.text or "").replace("\xa0", " ").rstrip("\n")
        if line is not None and shown:
            width = float(text.get("textLength", "0")) / len(shown)
            column = round(float(text.get("x", "0")) / width)
            lines[line] = lines.get(line, "").ljust(column) + shown
    # pytest names its plugins, and draws rules as wide as the times leave them room.
    plain = re.sub(r"(?ms)^plugins: .*?(?=^collected )", "", "\n".join(lines.values()))
    plain = re.sub(r"\d+(\.\d+)+( ?s\b)?( \(\d+:\d+:\d+\))?", "_", plain)
    return [re.sub(r"=+", "=", line).rstrip() for line in plain.splitlines()]


def draw() -> Iterator[Path]:
    """Draw every picture; the session comes last, since it takes longest."""
    PICTURES.mkdir(exist_ok=True)
    for name, svg in plots.plots(PERFORMANCE).items():
        (PICTURES / name).write_text(svg, encoding="utf-8")
        yield PICTURES / name
    with workplace() as home:
        environment = BenchEnvironment(home, project=ROOT)
        shutil.copytree(ROOT / "dags", environment.dags, dirs_exist_ok=True)
        try:
            with environment.up():
                SESSION.write_text(drawn(session(home, environment.variables)), encoding="utf-8")
        finally:
            environment.remove()
    yield SESSION
