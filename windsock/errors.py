"""Errors a person reads: what went wrong, and what to do next.

Every failure that windsock expects is a `WindsockError`. The command line prints its message and
its hint, without a traceback, and ends with its exit code:

| code | meaning                                                            |
|------|--------------------------------------------------------------------|
| 0    | done                                                               |
| 1    | the user's own code failed: an import error, a failed run or test  |
| 2    | the command or the configuration is wrong                          |
| 3    | the environment failed: a component, a tool, a disk, a port        |
| 4    | something did not happen in time                                   |
| 130  | interrupted                                                        |
"""

from __future__ import annotations

import traceback


class WindsockError(Exception):
    """The root of all errors that windsock raises on purpose.

    Args:
        message: What happened, one sentence, no trailing full stop needed.
        hint: What to check or run next; may be empty where the message says it all.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class DagError(WindsockError):
    """The user's own DAG failed: it does not import, or its run did not succeed."""

    exit_code = 1


class ConfigurationError(WindsockError):
    """A setting, an argument or a file that the user wrote cannot be used."""

    exit_code = 2


class EnvironmentFailure(WindsockError):
    """A component, a tool or the machine failed."""

    exit_code = 3


class DeadlineExceeded(WindsockError):
    """Something did not happen in its time. A timeout is a failure, never a shrug."""

    exit_code = 4


def explained(error: Exception, *, doing: str) -> WindsockError:
    """Any error as one that a person reads, for what must go on whatever has failed.

    Args:
        error: One of ours is returned as it is.
        doing: What failed, as it stands after "could not".
    """
    if isinstance(error, WindsockError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    where = f", at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return EnvironmentFailure(
        f"could not {doing}: {error!r}", f"windsock did not expect this{where}."
    )
