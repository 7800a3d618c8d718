"""What all commands share: how an error is shown, and the settings with the flags applied.

windsock/errors.py lists the exit codes.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context, Exit, task
from invoke.util import yaml

from windsock import config
from windsock.commands.late import LateModule
from windsock.errors import ConfigurationError, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke import Task

    from windsock import flow
    from windsock.terminal import console
else:
    console = LateModule("windsock.terminal.console")
    flow = LateModule("windsock.flow")

INTERRUPTED = 130

AS_FOR_UP = dict.fromkeys(("target", "context", "namespace"), "As for `invoke up`.")
"""Help of the flags that choose a cluster."""

TAKE_OVER = "Also if somebody else syncs to the namespace; that person gets a message."
"""Help of `--take-over` where nobody stays to sync."""


def command(**options: Any) -> Callable[[Callable[..., int | None]], Task[Any]]:
    """As Invoke's `task`, for a body that may return an exit code and raise `WindsockError`."""

    def wrap(body: Callable[..., int | None]) -> Task[Any]:
        made: Task[Any] = task(**options)(reports_errors(body))
        return made

    return wrap


def reports_errors(body: Callable[..., int | None]) -> Callable[..., None]:
    """Show an expected error as a person wants it, and end with its exit code."""

    @functools.wraps(body)
    def run(*arguments: Any, **options: Any) -> None:
        # A terminal that is closed, or a job that is cancelled, is an interrupt as well.
        for name in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(name) is not signal.SIG_IGN:  # `nohup` means what it says.
                signal.signal(name, signal.default_int_handler)
        try:
            code = body(*arguments, **options)
            sys.stdout.flush()
        except WindsockError as error:
            console.Console().error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            console.Console().line("interrupted")
            code = INTERRUPTED
        except BrokenPipeError:  # The reader of our output, say `head`, has gone: no failure.
            # Python writes what is left to stdout when it ends, and would fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        if code:
            raise Exit(code=code)

    return run


def workspace(
    context: Context,
    *,
    kube_context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
    take_over: bool = False,
    **overrides: str,
) -> flow.Workspace:
    """The settings of this project; the flags of the command replace their values."""
    values: dict[str, Any] = dict(context.config.windsock)
    values.update({name: value for name, value in overrides.items() if value})
    cluster = {
        "context": kube_context,
        "namespace": namespace,
        "skip_unserved": skip_unserved,
        "take_over": take_over,
    }
    values["cluster"] = {
        **values["cluster"],
        **{name: value for name, value in cluster.items() if value},
    }
    if kube_context:
        values["target"] = "context"
    settings = config.load(values, project=Path(context.config.project))
    return flow.Workspace(settings=settings, console=console.Console())


def check_system(name: str) -> None:
    """Refuse Windows in words: PostgreSQL, Airflow and windsock need what only Unix has.

    Args:
        name: As `sys.platform`.

    Raises:
        Exit: It is Windows.
    """
    if name == "win32":
        raise Exit(
            "✗ windsock does not run on Windows itself, and neither does Airflow\n"
            "  Use the Windows Subsystem for Linux: `wsl --install`, then clone and run it there,\n"
            "  in a folder of Linux (`~`, not `/mnt/c`): saves are noticed at once only in those.",
            code=ConfigurationError.exit_code,
        )


def check_invoke_yaml(path: Path) -> None:
    """Refuse a broken invoke.yaml in words; Invoke itself would show a traceback.

    Raises:
        Exit: It is no YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)  # type: ignore[no-untyped-call] # Invoke's own copy
    except FileNotFoundError:
        return
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Exit(f"✗ {path} cannot be read: {error}", code=ConfigurationError.exit_code) from None
    if values is not None and not isinstance(values, dict):
        raise Exit(
            f"✗ {path} must be a mapping, like `windsock: {{dags: dags}}`",
            code=ConfigurationError.exit_code,
        )
