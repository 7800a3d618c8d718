"""A program in the place of kubectl."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put_kubectl(folder: Path, *, minor: str = "32", output: str = "", complaint: str = "") -> None:
    """Write a kubectl to a folder; it needs no other program.

    Args:
        folder: Of the program.
        minor: Of its version.
        output: Its output, whatever it is asked to do.
        complaint: Its error, with which it ends; empty means that it succeeds.
    """
    version = f'{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}'
    (folder / "output").write_text(output)
    program = folder / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f"[ \"$1\" = version ] && {{ echo '{version}'; exit 0; }}\n"
        f"[ -z '{complaint}' ] || {{ echo '{complaint}' >&2; exit 1; }}\n"
        f"while IFS= read -r line; do echo \"$line\"; done <'{folder}/output'\n"
    )
    program.chmod(0o755)
