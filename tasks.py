"""The commands, for Invoke: `invoke --list` names them, `invoke --help up` teaches one."""

from pathlib import Path

from dev import commands
from windsock.commands import namespace as windsock

namespace = windsock.of(Path(__file__).resolve().parent)
commands.add_to(namespace)
