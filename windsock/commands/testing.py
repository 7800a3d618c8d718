"""The end-to-end tests of the DAGs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.commands.arguments import LenientTask
from windsock.commands.command import TAKE_OVER, command, workspace
from windsock.commands.late import LateModule

if TYPE_CHECKING:
    from invoke import Context

    from windsock import flow
else:
    flow = LateModule("windsock.flow")


@command(
    klass=LenientTask,
    positional=["paths"],
    iterable=["paths"],
    help={
        "paths": "Test files or folders; tests/dags when left out.",
        "k": "Only tests whose names match this pytest expression.",
        "affected": "Only tests of DAGs whose files changed since this git ref.",
        "watch": "Run again on each save.",
        "junit": "Write a JUnit report to this file.",
        "parallel": "How many tests run at once (pytest-xdist); 0 runs them in one process.",
    },
)
def test(
    context: Context,
    paths: list[str] | None = None,
    k: str = "",
    affected: str = "",
    watch: bool = False,
    junit: str = "",
    parallel: int = 0,
) -> int:
    """Run the end-to-end tests of the DAGs on the environment, bringing it up if needed."""
    return flow.test(
        workspace(context),
        flow.TestRequest(
            paths=tuple(paths or ()),
            keyword=k,
            affected=affected,
            watch=watch,
            junit=junit,
            parallel=parallel,
        ),
    )


@command(help={"junit": "Where to write the JUnit report.", "take-over": TAKE_OVER})
def ci(context: Context, junit: str = "junit.xml", take_over: bool = False) -> int:
    """Bring the environment up, run the DAG tests, take it down: one exit code, one JUnit file."""
    return flow.ci(workspace(context, take_over=take_over), junit=junit)
