"""Why a run waits: what Airflow knows about it, as reasons that a person can act on.

Airflow itself says `queued` or `running`, and writes the reason into the scheduler's log at best.
`reasons` asks the API for what each waiting task needs: the DAG, the pool, the executor.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from windsock.airflow.records import ACTIVE_TASK_STATES
from windsock.errors import WindsockError
from windsock.terminal.words import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import Dag, DagRun, Json, TaskInstance
    from windsock.model import TaskPod

MOST_ASKED = 4
"""About how many tasks Airflow is asked for its own words."""
FIRST_LOOK = 3.0
"""Seconds after which a run that has not ended may need an explanation."""
LOOK_EVERY = 5.0
"""Seconds between two looks: each one asks Airflow a few questions."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One thing that a run waits for.

    Attributes:
        code: For programs; docs/commands.md lists them.
        message: The cause, in one sentence.
        hint: What to do about it; may be empty.
        tasks: Which tasks of the run wait for it; empty if the run itself does.
        held_by: The runs, as `dag_id run_id`, that have what is waited for.
    """

    code: str
    message: str
    hint: str = ""
    tasks: tuple[str, ...] = ()
    held_by: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """The fields by their names, for `--json`."""
        return asdict(self)


def no_pods(dag_id: str, run_id: str) -> Sequence[TaskPod]:
    """Where tasks run without pods."""
    del dag_id, run_id
    return ()


def reasons(
    airflow: Airflow,
    dag_id: str,
    run_id: str,
    *,
    parallelism: int = 0,
    pods: Callable[[str, str], Sequence[TaskPod]] = no_pods,
) -> list[Reason]:
    """Why a run has not ended yet; empty if it has.

    Args:
        airflow: Where it runs.
        dag_id: Of its DAG.
        run_id: Of the run.
        parallelism: How many task instances run at once; 0 if that is not known.
        pods: Of a DAG and a run: the queued tasks whose pods have not started.

    Raises:
        WindsockError: Airflow does not say.
    """
    run = airflow.run(dag_id, run_id)
    if run.finished:
        return []
    dag = airflow.dag(dag_id)
    found = [*_away(airflow), *_of_the_dag(dag)]
    if run.state == "queued":
        found += _of_a_queued_run(airflow, dag, run)
        return found or [
            Reason(code="not-started", message="the scheduler has not started the run yet")
        ]
    instances = airflow.task_instances(dag_id, run_id)
    by_state: dict[str | None, list[TaskInstance]] = {}
    for item in instances:
        by_state.setdefault(item.state, []).append(item)
    found += _of_scheduled(airflow, dag, by_state, parallelism=parallelism)
    if queued := by_state.get("queued", []):
        found += _of_queued(queued, pods(dag_id, run_id))
    found += _of_started(by_state)
    if not any(state in by_state for state in ACTIVE_TASK_STATES):
        found += _as_airflow_says(airflow, by_state.get(None, []))
    return found or [
        Reason(code="not-looked-at", message="the scheduler has not looked at the run again yet")
    ]


def _away(airflow: Airflow) -> Iterator[Reason]:
    """The components without which a run stands still."""
    health = airflow.health()
    for name in ("scheduler", "triggerer"):
        entry = health.get(name) or {}
        if entry.get("status") != "unhealthy":
            continue
        heard = entry.get(f"latest_{name}_heartbeat") or "it started"
        yield Reason(
            code=f"{name}-away",
            message=f"the {name} is away: nothing has been heard of it since {heard}",
            hint=f"`invoke logs {name}` shows why; `invoke restart {name}` starts it again.",
        )


def _of_the_dag(dag: Dag) -> Iterator[Reason]:
    if dag.paused:
        yield Reason(
            code="paused",
            message=f"{dag.dag_id} is paused: nothing of it starts",
            hint="Unpause it in the UI, or by "
            f"`invoke shell -- airflow dags unpause {dag.dag_id}`.",
        )
    if dag.stale:
        yield Reason(
            code="stale",
            message=f"no file defines {dag.dag_id} any more: nothing of it starts",
            hint="`invoke dags.errors` shows the files that do not import.",
        )


def _of_a_queued_run(airflow: Airflow, dag: Dag, run: DagRun) -> Iterator[Reason]:
    holders = [
        other.run_id
        for other in airflow.runs(dag.dag_id, states=("running",))
        if other.run_id != run.run_id
    ]
    if dag.max_active_runs is not None and len(holders) >= dag.max_active_runs:
        by = f", held by {some(holders)}" if holders else ": none ever starts"
        yield Reason(
            code="max-active-runs",
            message=f"{dag.dag_id} allows {dag.max_active_runs} active runs (max_active_runs){by}",
            hint="Wait for its end, or mark it failed in the UI." if holders else "Raise it.",
            held_by=tuple(f"{dag.dag_id} {holder}" for holder in holders),
        )


def _of_scheduled(
    airflow: Airflow,
    dag: Dag,
    by_state: dict[str | None, list[TaskInstance]],
    *,
    parallelism: int,
) -> Iterator[Reason]:
    """Why tasks that may run are not handed to the executor."""
    waiting = by_state.get("scheduled", [])
    if not waiting:
        return
    everywhere = airflow.active_instances()
    pools = {str(pool["name"]): pool for pool in airflow.objects("pools")}
    blocked: set[str] = set()
    for name in dict.fromkeys(item.pool for item in waiting):
        items = [item for item in waiting if item.pool == name]
        for reason in _of_a_pool(name, pools.get(name), items, everywhere):
            blocked.update(reason.tasks)
            yield reason
    left = [item for item in waiting if item.label not in blocked]
    active = [*by_state.get("running", []), *by_state.get("queued", [])]
    labels = tuple(item.label for item in left)
    if left and dag.max_active_tasks and len(active) >= dag.max_active_tasks:
        most = f"{dag.max_active_tasks} active task{'' if dag.max_active_tasks == 1 else 's'}"
        yield Reason(
            code="max-active-tasks",
            message=f"{some(labels)}: a run of {dag.dag_id} has {most} at most "
            f"(max_active_tasks), now {some([item.label for item in active])}",
            tasks=labels,
        )
    elif left and parallelism and len(everywhere) >= parallelism:
        yield Reason(
            code="no-executor-slot",
            message=f"{some(labels)}: no slot of the executor is free; its {parallelism} are "
            f"held by {some([_of_run(item) for item in everywhere])}",
            hint="Wait for them, or raise the limit in invoke.yaml: `core.parallelism` below "
            "`airflow` if it is there, else `local.parallelism`.",
            tasks=labels,
            held_by=_runs_of(everywhere),
        )
    else:
        yield from _as_airflow_says(airflow, left)


def _of_a_pool(
    name: str, pool: Json | None, items: list[TaskInstance], everywhere: list[TaskInstance]
) -> Iterator[Reason]:
    labels = tuple(item.label for item in items)
    if pool is None:
        yield Reason(
            code="no-pool",
            message=f"{some(labels)}: there is no pool {name!r}",
            hint="Add it to `pools` in airflow_settings.yaml, or correct `pool` of the task.",
            tasks=labels,
        )
        return
    slots = int(pool["slots"])
    too_large = [item for item in items if 0 <= slots < item.pool_slots]
    for item in too_large:
        yield Reason(
            code="pool-too-small",
            message=f"{item.label}: it needs {item.pool_slots} slots of the pool {name!r}, "
            f"which has {slots}",
            hint="Lower `pool_slots` of the task, or give the pool more slots.",
            tasks=(item.label,),
        )
    free = int(pool["open_slots"])
    held = [item for item in everywhere if item.pool == name]
    short = tuple(
        item.label for item in items if item not in too_large and 0 <= free < item.pool_slots
    )
    if short:
        yield Reason(
            code="pool-full",
            message=f"{some(short)}: the pool {name!r} has {slots} slots and {free} free, held by "
            f"{some([_of_run(item) for item in held]) or 'deferred tasks'}",
            tasks=short,
            held_by=_runs_of(held),
        )


def _as_airflow_says(airflow: Airflow, items: list[TaskInstance]) -> Iterator[Reason]:
    """Airflow's own words, for what is not told apart here."""
    for item in items[:MOST_ASKED]:
        for name, reason in airflow.unmet(
            item.dag_id, item.run_id, item.task_id, map_index=item.map_index
        ):
            if name in _TOLD_OTHERWISE:
                continue
            words = reason.partition(_LISTS)[0].rstrip(" .,:")
            code, hint = _CODES.get(name, ("unmet", ""))
            yield Reason(
                code=code, message=f"{item.label}: {words}", hint=hint, tasks=(item.label,)
            )


_CODES = {
    "Previous Dagrun State": (
        "depends-on-past",
        "Let it succeed in the run before, or mark it as success there in the UI.",
    ),
    "Trigger Rule": ("trigger-rule", ""),
}
"""Airflow's name of a dependency → code, hint."""
_TOLD_OTHERWISE = ("Task Instance State", "Dag Not Paused")
"""The first one is not met by any task before the scheduler has looked at it."""
_LISTS = "upstream_states="
"""Where Airflow's sentence about a trigger rule ends, and Python's text of its counts begins."""


def _of_queued(items: list[TaskInstance], pods: Sequence[TaskPod]) -> Iterator[Reason]:
    left = {(item.task_id, item.map_index): item.label for item in items}
    alike: dict[str, list[str]] = {}
    hints: dict[str, str] = {}
    for pod in pods:
        if label := left.pop((pod.task_id, pod.map_index), ""):
            alike.setdefault(pod.why, []).append(label)
            hints[pod.why] = pod.hint
    for why, names in alike.items():
        yield Reason(
            code="pod", message=f"{some(names)}: {why}", hint=hints[why], tasks=tuple(names)
        )
    if left:
        labels = tuple(left.values())
        yield Reason(
            code="queued",
            message=f"{some(labels)}: the executor has it, and has not started it yet",
            hint="`invoke logs scheduler` shows what the executor does.",
            tasks=labels,
        )


_STARTED = {
    "running": ("runs", "run"),
    "restarting": ("is being restarted", "are being restarted"),
    "deferred": (
        "has handed its waiting to the triggerer",
        "have handed their waiting to the triggerer",
    ),
    "up_for_reschedule": (
        "looks for what it waits for from time to time (mode=reschedule)",
        "look for what they wait for from time to time (mode=reschedule)",
    ),
    "up_for_retry": (
        "failed, and is tried again after its retry_delay",
        "failed, and are tried again after their retry_delay",
    ),
    "awaiting_input": ("waits for the answer of a person", "wait for the answers of a person"),
    "failed": (
        "failed; the run ends when no other task can start",
        "failed; the run ends when no other task can start",
    ),
    "upstream_failed": (
        "does not start, since a task before it failed",
        "do not start, since a task before each failed",
    ),
}
"""State of a task instance → what one does, or did; what several do."""


def _of_started(by_state: dict[str | None, list[TaskInstance]]) -> Iterator[Reason]:
    for state, words in _STARTED.items():
        labels = tuple(item.label for item in by_state.get(state, []))
        if labels:
            code = state.replace("_", "-")
            message = f"{some(labels)} {words[len(labels) > 1]}"
            yield Reason(code=code, message=message, tasks=labels)


def _of_run(item: TaskInstance) -> str:
    return f"{item.dag_id}.{item.label} of {item.run_id}"


def _runs_of(items: list[TaskInstance]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{item.dag_id} {item.run_id}" for item in items))


class Watch:
    """Tells why a run waits while somebody waits for its end: each news once.

    Args:
        look: The reasons now.
        tell: Gets the reasons when they have changed.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        look: Callable[[], list[Reason]],
        tell: Callable[[list[Reason]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._tell = tell
        self._clock = clock
        self._next = clock() + FIRST_LOOK
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def __call__(self) -> None:
        """Look, if it is time to."""
        if self._clock() < self._next:
            return
        try:
            found = self._look()
        except WindsockError as error:
            found = [Reason(code="no-answer", message=error.message, hint=error.hint)]
        self._next = self._clock() + LOOK_EVERY
        told = {(reason.code, reason.tasks) for reason in found}
        if told - self._told:
            self._tell([item for item in found if (item.code, item.tasks) not in self._told])
        self._told = told
