"""Sends the agent's text to where the store is: the command to start there, and its first input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import windsock

if TYPE_CHECKING:
    from windsock.store.agent import Options

STORE = ("entries", "wire", "files", "lock", "batch", "building", "usage", "store")
MODULES = ("json_lines", *(f"store.{name}" for name in (*STORE, "processor", "agent")))
"""The agent's modules, each after those it imports."""

LOADER = """
import json, sys, types
stream = open(0, "rb", 0, closefd=False)
size, text = int(stream.readline()), b""
while len(text) < size:
    piece = stream.read(size - len(text))
    if not piece:
        sys.exit("the stream ended before the agent had arrived")
    text += piece
for name, source in json.loads(text):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
module.main()
"""


def command(python: str, options: Options) -> list[str]:
    """The command that loads and runs the agent.

    Args:
        python: An interpreter there, version 3.11 or newer.
        options: Of the agent.
    """
    # Isolated and without site-packages: nothing of the environment there can change the agent.
    return [python, "-I", "-S", "-c", LOADER, json.dumps(options._asdict())]


def greeting() -> bytes:
    """The loader's input: a line with a size, then that many bytes of the agent."""
    folder = Path(windsock.__file__).parent
    sources = [
        (f"windsock.{name}", (folder / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
        for name in MODULES
    ]
    text = json.dumps(sources).encode("ascii")
    return b"%d\n%s" % (len(text), text)
