"""Where the environment of a state folder runs.

The file is written before the first thing is made there, and removed when the environment is down.
So the next command finds what a killed `invoke up` left behind, without any flag.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.files import private_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path

FILE = "target.json"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where an environment runs.

    Attributes:
        target: `local`, `kind`, `context` or `okteto`.
        context: The kube context; empty on the local target.
        namespace: Of the cluster; empty on the local target.
    """

    target: str
    context: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        if not self.context:
            return self.target
        return f"{self.target} (context {self.context}, namespace {self.namespace})"

    def save(self, state: Path) -> None:
        """Write it to the state folder."""
        private_folder(state)
        write_whole(state / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, state: Path) -> Location | None:
        """The location of the environment that is, or may be, up; None if there is none.

        Raises:
            EnvironmentFailure: The file is damaged.
        """
        try:
            return cls(**json.loads((state / FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise EnvironmentFailure(
                f"{state / FILE} cannot be used: {error}",
                "Remove it. Then run `invoke up` as before, or name the target and take it down: "
                "`INVOKE_WINDSOCK_TARGET=kind invoke down`.",
            ) from error

    @staticmethod
    def remove(state: Path) -> None:
        """Remove the file: nothing is up any more."""
        (state / FILE).unlink(missing_ok=True)
