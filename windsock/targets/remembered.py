"""Where the environment of a state folder was brought up, so that later commands find it.

Written before the first thing is made there and removed when it is down: what a killed `invoke up`
left behind is found by the next command, without any flag.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.local.files import private_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path

FILE = "target.json"


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """A place for an environment.

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
        """Remember it."""
        private_folder(state)
        write_whole(state / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, state: Path) -> Remembered | None:
        """The place of the environment that is, or may be, up; None if there is none.

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
                "Remove it, then name the target: `invoke down --target …`.",
            ) from error

    @staticmethod
    def forget(state: Path) -> None:
        """Nothing is up any more."""
        (state / FILE).unlink(missing_ok=True)
