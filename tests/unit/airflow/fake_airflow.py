"""A fake of Airflow's REST API behind an httpx transport: the shapes recorded from Airflow 3.3.2.

tests/contract/airflow runs the same cases against this fake and against a real Airflow, so that the
fake cannot drift away unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx

from windsock.airflow.api import Airflow

Json = dict[str, Any]

URL = "http://127.0.0.1:18080"
USER = "admin"
PASSWORD = "admin-password"
MOMENT = "2026-11-22T15:36:{:02d}.000000Z"


class VirtualClock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeTask:
    """How one task instance of every run of a DAG turns out."""

    task_id: str
    state: str | None = "success"
    xcom: Any = None
    map_index: int = -1
    tries: int = 1
    log: list[Json] = field(default_factory=list)
    pool: str = "default_pool"
    pool_slots: int = 1
    downstream: tuple[str, ...] = ()
    depends_on_past: bool = False


@dataclass
class FakeDag:
    """A DAG, and how its runs turn out after so many looks at them."""

    dag_id: str
    tasks: list[FakeTask] = field(default_factory=list)
    state: str = "success"
    looks: int = 2
    file: str = "shop.py"
    paused: bool = False
    stale: bool = False
    max_active_runs: int = 16
    max_active_tasks: int = 16
    starts: str | None = None
    """The DAG that an asset of this one starts."""


class Asked(NamedTuple):
    """The parameters and the body of a request."""

    query: dict[str, str]
    body: Any


Answer = Json | httpx.Response
Handler = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
RUN = "/dags/([^/]+)/dagRuns/([^/]+)"


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Let a method of `FakeAirflow` answer requests; it gets the groups of the pattern."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return register


class FakeAirflow:
    """An Airflow in memory.

    Attributes:
        requests: Method and path of each request, logins included.
        page_limit: The most items of one page, as `[api] maximum_page_limit`.
        has_wait: Whether the experimental waiting stream exists.
        tokens: How many tokens were handed out; only the newest is good.
    """

    def __init__(self, *dags: FakeDag) -> None:
        self.dags = {dag.dag_id: dag for dag in dags}
        self.runs: dict[tuple[str, str], Json] = {}
        self.looks: dict[tuple[str, str], int] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self.import_errors: dict[str, str] = {}
        self.page_limit = 100
        self.has_wait = True
        self.wait_breaks = False
        self.late_log_lines: list[Json] = []
        self.tokens = 0
        self.unmet: dict[str, list[tuple[str, str]]] = {}
        self.ends: dict[tuple[str, str, str], str] = {}
        self.health: Json = {
            name: {"status": "healthy", f"latest_{name}_heartbeat": MOMENT.format(10)}
            for name in ("scheduler", "triggerer")
        }
        pool = {"name": "default_pool", "slots": 128, "description": "Default pool"}
        self.objects: dict[str, dict[str, Json]] = {
            "connections": {},
            "variables": {},
            "pools": {"default_pool": pool},
        }
        self.routes = list(ROUTES)

    def client(self, clock: VirtualClock | None = None) -> Airflow:
        """The real client, talking to this fake."""
        used = clock or VirtualClock()
        return Airflow(
            URL,
            USER,
            PASSWORD,
            clock=used,
            sleep=used.sleep,
            transport=httpx.MockTransport(self.handle),
        )

    def expire_tokens(self) -> None:
        """Make every token bad, as time does."""
        self.tokens += 1

    def paths(self, method: str) -> list[str]:
        """The paths of the requests with a method."""
        return [path for used, path in self.requests if used == method]

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        quoted = request.url.raw_path.decode().partition("?")[0]
        self.requests.append((request.method, unquote(quoted)))
        body = json.loads(request.content) if request.content else None
        self.bodies.append(body)
        if quoted == "/auth/token":
            return self._log_in(body)
        if request.headers.get("authorization") != f"Bearer token-{self.tokens}":
            return refused(401, "Invalid JWT token")
        for method, pattern, handler in self.routes:
            match = pattern.fullmatch(quoted.removeprefix("/api/v2"))
            if method == request.method and match:
                parts = [unquote(part) if part else None for part in match.groups()]
                answer = handler(self, Asked(dict(request.url.params), body), *parts)
                if isinstance(answer, httpx.Response):
                    return answer
                return httpx.Response(200, json=answer)
        return refused(404, "Not Found")

    # The API

    def _log_in(self, body: Json | None) -> httpx.Response:
        if body != {"username": USER, "password": PASSWORD}:
            return refused(401, "Invalid credentials")
        self.tokens += 1
        return httpx.Response(201, json={"access_token": f"token-{self.tokens}"})

    @route("GET", "/version")
    def version(self, _: Asked) -> Answer:
        return {"version": "3.3.2", "git_version": None}

    @route("GET", "/dags")
    def list_dags(self, asked: Asked) -> Answer:
        known = [self._dag(dag) for _, dag in sorted(self.dags.items()) if not dag.stale]
        return self._page(asked, "dags", known)

    @route("GET", "/dags/([^/]+)")
    def get_dag(self, _: Asked, dag_id: str) -> Answer:
        if dag_id not in self.dags:
            return refused(404, f"The Dag with ID: `{dag_id}` was not found")
        return self._dag(self.dags[dag_id])

    @route("PATCH", "/dags/([^/]+)")
    def patch_dag(self, asked: Asked, dag_id: str) -> Answer:
        if dag_id not in self.dags:
            return refused(404, f"Dag with id: {dag_id} not found")
        self.dags[dag_id].paused = asked.body["is_paused"]
        return self._dag(self.dags[dag_id])

    def _dag(self, dag: FakeDag) -> Json:
        return {
            "dag_id": dag.dag_id,
            "is_paused": dag.paused,
            "is_stale": dag.stale,
            "last_parsed_time": MOMENT.format(15),
            "bundle_version": None,
            "relative_fileloc": dag.file,
            "timetable_summary": None,
            "max_active_runs": dag.max_active_runs,
            "max_active_tasks": dag.max_active_tasks,
            "tags": [],
            "has_import_errors": dag.file in self.import_errors,
        }

    @route("GET", "/dags/([^/]+)/tasks")
    def list_tasks(self, _: Asked, dag_id: str) -> Answer:
        tasks = {
            task.task_id: {
                "task_id": task.task_id,
                "downstream_task_ids": list(task.downstream),
                "depends_on_past": task.depends_on_past,
                "trigger_rule": "all_success",
                "is_mapped": task.map_index >= 0,
            }
            for task in self.dags[dag_id].tasks
        }
        return {"tasks": list(tasks.values()), "total_entries": len(tasks)}

    @route("GET", "/monitor/health")
    def get_health(self, _: Asked) -> Answer:
        return self.health

    @route("GET", "/importErrors")
    def list_import_errors(self, asked: Asked) -> Answer:
        errors = [
            {"filename": file, "stack_trace": text, "timestamp": MOMENT.format(2)}
            for file, text in self.import_errors.items()
        ]
        return self._page(asked, "import_errors", errors)

    @route("GET", "/assets/events")
    def list_events(self, asked: Asked) -> Answer:
        source = (asked.query["source_dag_id"], asked.query["source_run_id"])
        dag = self.dags.get(source[0])
        events: list[Json] = []
        if dag is not None and dag.starts is not None and source in self.runs:
            started = (dag.starts, f"asset_triggered__{source[1]}")
            if not self.dags[dag.starts].paused and started not in self.runs:
                self._start(*started, conf={}, run_type="asset_triggered")
            runs = [{"dag_id": started[0], "run_id": started[1]}] if started in self.runs else []
            events = [{"name": "an_asset", "uri": "an_asset", "created_dagruns": runs}]
        return self._page(asked, "asset_events", events)

    @route("GET", "/dags/([^/]+)/dagRuns")
    def list_runs(self, asked: Asked, dag_id: str) -> Answer:
        if dag_id not in ("~", *self.dags):
            return refused(404, f"The Dag with ID: `{dag_id}` was not found")
        prefix, state = asked.query.get("run_id_prefix_pattern", ""), asked.query.get("state")
        runs = [
            run
            for (own, run_id), run in self.runs.items()
            if dag_id in ("~", own) and run_id.startswith(prefix) and state in (None, run["state"])
        ]
        if asked.query.get("order_by") == "-id":
            runs.reverse()
        return self._page(asked, "dag_runs", runs)

    @route("POST", "/dags/([^/]+)/dagRuns")
    def trigger(self, asked: Asked, dag_id: str) -> Answer:
        if dag_id not in self.dags or self.dags[dag_id].stale:
            return refused(404, f"Dag with dag_id: '{dag_id}' not found")
        if "logical_date" not in asked.body:
            missing = {"type": "missing", "loc": ["body", "logical_date"], "msg": "Field required"}
            return refused(422, [{**missing, "input": asked.body}])
        run_id = asked.body.get("dag_run_id") or f"manual__{len(self.runs)}"
        if (dag_id, run_id) in self.runs:
            return refused(
                409,
                {
                    "reason": "Unique constraint violation",
                    "statement": "hidden",
                    "orig_error": "hidden",
                    "message": "Serious error when handling your request.",
                },
            )
        if not re.fullmatch(r"[A-Za-z0-9_.~:+-]+", run_id):
            return refused(400, f"The run_id provided '{run_id}' does not match regex pattern")
        return self._start(dag_id, run_id, conf=asked.body["conf"])

    def _start(self, dag_id: str, run_id: str, *, conf: Json, run_type: str = "manual") -> Json:
        self.looks[(dag_id, run_id)] = 0
        self.runs[(dag_id, run_id)] = run = {
            "dag_id": dag_id,
            "dag_run_id": run_id,
            "state": "queued",
            "run_type": run_type,
            "queued_at": MOMENT.format(20),
            "start_date": None,
            "end_date": None,
            "logical_date": None,
            "conf": conf,
            "bundle_version": None,
            "dag_versions": [{"bundle_version": None}],
        }
        return run

    def _look(self, identity: tuple[str, str]) -> Json | None:
        """A run as it is at this look: each look brings it on, if its DAG is not paused."""
        run = self.runs.get(identity)
        if run is None or run["state"] in ("success", "failed"):
            return run
        dag = self.dags[identity[0]]
        self.looks[identity] += 0 if dag.paused else 1
        if self.looks[identity] >= dag.looks:
            run.update(state=dag.state, start_date=MOMENT.format(20), end_date=MOMENT.format(30))
        elif self.looks[identity]:
            run.update(state="running", start_date=MOMENT.format(20))
        return run

    @route("GET", RUN)
    def get_run(self, _: Asked, dag_id: str, run_id: str) -> Answer:
        return self._look((dag_id, run_id)) or no_run(dag_id, run_id)

    @route("PATCH", RUN)
    def patch_run(self, asked: Asked, dag_id: str, run_id: str) -> Answer:
        run = self.runs.get((dag_id, run_id))
        if run is None:
            return no_run(dag_id, run_id)
        run.update(state=asked.body["state"], end_date=MOMENT.format(40))
        return run

    @route("DELETE", RUN)
    def delete_run(self, _: Asked, dag_id: str, run_id: str) -> Answer:
        run = self.runs.get((dag_id, run_id))
        if run is None:
            return no_run(dag_id, run_id)
        if run["state"] == "running":
            return refused(
                409,
                f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` "
                "cannot be deleted in running state",
            )
        del self.runs[(dag_id, run_id)]
        return httpx.Response(204)

    @route("GET", f"{RUN}/wait")
    def wait(self, _: Asked, dag_id: str, run_id: str) -> Answer:
        if not self.has_wait:
            return refused(404, "Not Found")
        if (dag_id, run_id) not in self.runs:
            return no_run(dag_id, run_id)
        lines = []
        for _look in range(100):
            run = self._look((dag_id, run_id)) or {}
            lines.append(json.dumps({"state": run["state"]}))
            if run["state"] in ("success", "failed") or self.wait_breaks:
                break
        return httpx.Response(200, content="\n".join(lines).encode() + b"\n")

    @route("GET", f"{RUN}/taskInstances")
    def list_instances(self, asked: Asked, dag_id: str, run_id: str) -> Answer:
        if (dag_id, run_id) == ("~", "~"):
            everywhere = [
                self._instance(dag, run, task)
                for (dag, run), record in self.runs.items()
                for task in self.dags[dag].tasks
                if task.state in ("queued", "running") and record["state"] == "running"
            ]
            return self._page(asked, "task_instances", everywhere)
        if (dag_id, run_id) not in self.runs:
            return no_run(dag_id, run_id)
        instances = [self._instance(dag_id, run_id, task) for task in self.dags[dag_id].tasks]
        return self._page(asked, "task_instances", instances)

    def _instance(
        self, dag_id: str, run_id: str, task: FakeTask, try_number: int | None = None
    ) -> Json:
        number = task.tries if try_number is None else try_number
        started = task.tries > 0
        return {
            "task_id": task.task_id,
            "dag_id": dag_id,
            "dag_run_id": run_id,
            "pool": task.pool,
            "pool_slots": task.pool_slots,
            "map_index": task.map_index,
            "state": task.state if number == task.tries else "failed",
            "try_number": number,
            "start_date": MOMENT.format(20 + number) if started else None,
            "end_date": MOMENT.format(21 + number) if started else None,
            "operator_name": "@task",
            "dag_version": {"bundle_version": None},
        }

    @route("GET", "/eventLogs")
    def list_event_logs(self, asked: Asked) -> Answer:
        wanted = (asked.query["dag_id"], asked.query["run_id"])
        logs = [
            {"task_id": task_id, "map_index": -1, "extra": extra}
            for (*key, task_id), extra in self.ends.items()
            if tuple(key) == wanted
        ]
        return {"event_logs": logs, "total_entries": len(logs)}

    @route("GET", f"{RUN}/taskInstances/([^/]+)/dependencies")
    def list_dependencies(self, _: Asked, _dag_id: str, _run_id: str, task_id: str) -> Answer:
        said = self.unmet.get(task_id, [])
        return {"dependencies": [{"name": name, "reason": reason} for name, reason in said]}

    @route("GET", f"{RUN}/taskInstances/([^/]+)(?:/([0-9]+))?/tries")
    def list_tries(
        self, _: Asked, dag_id: str, run_id: str, task_id: str, map_index: str | None
    ) -> Answer:
        task = self._task(dag_id, task_id, map_index or "-1")
        if task is None:
            return refused(404, "The Task Instance was not found")
        tries = [self._instance(dag_id, run_id, task, number + 1) for number in range(task.tries)]
        return {"task_instances": tries, "total_entries": len(tries)}

    @route("GET", f"{RUN}/taskInstances/([^/]+)/logs/([0-9]+)")
    def get_log(self, asked: Asked, dag_id: str, run_id: str, task_id: str, number: str) -> Answer:
        task = self._task(dag_id, task_id, asked.query.get("map_index", "-1"))
        if task is None or (dag_id, run_id) not in self.runs or not 1 <= int(number) <= task.tries:
            return refused(404, "TaskInstance not found")
        start: list[Json] = [{"event": "::group::Log message source details"}]
        end = [line_of("::group::Post Execute"), line_of("::endgroup::")]
        late, self.late_log_lines = self.late_log_lines, []
        content = [*start, *task.log] + ([] if late else end)
        task.log += late
        return {"content": content, "continuation_token": None}

    @route("GET", f"{RUN}/taskInstances/([^/]+)/xcomEntries/(.+)")
    def get_xcom(self, asked: Asked, dag_id: str, run_id: str, task_id: str, key: str) -> Answer:
        task = self._task(dag_id, task_id, asked.query.get("map_index", "-1"))
        known = (dag_id, run_id) in self.runs and task is not None and key == "return_value"
        if not known or task is None or task.xcom is None:
            return refused(404, f"XCom entry with key: `{key}` not found")
        return {"key": key, "value": task.xcom}

    def _task(self, dag_id: str, task_id: str, map_index: str) -> FakeTask | None:
        for task in self.dags[dag_id].tasks:
            if (task.task_id, task.map_index) == (task_id, int(map_index)):
                return task
        return None

    @route("GET", "/(connections|variables|pools)")
    def list_objects(self, asked: Asked, kind: str) -> Answer:
        shown = [masked(item) for item in self.objects[kind].values()]
        if kind == "pools":
            shown = [{"open_slots": pool["slots"], **pool} for pool in shown]
        return self._page(asked, kind, shown)

    @route("PATCH", "/(connections|variables|pools)")
    def change_objects(self, asked: Asked, kind: str) -> Answer:
        identifier = {"connections": "connection_id", "variables": "key", "pools": "name"}[kind]
        answer: Json = {"create": None, "update": None, "delete": None}
        # The deletions reach the database last, whatever their place.
        for action in sorted(asked.body["actions"], key=lambda item: item["action"] == "delete"):
            done: list[str] = []
            for entity in action["entities"]:
                if action["action"] == "delete":
                    if self.objects[kind].pop(entity, None) is not None:
                        done.append(entity)
                    continue
                if kind == "connections" and not re.fullmatch(r"[\w.-]+", entity[identifier]):
                    complaint = {"loc": ["body", "connection_id"], "msg": "String should match"}
                    return refused(422, [{**complaint, "input": entity}])
                before = self.objects[kind].get(entity[identifier], {})
                after = {**before, **entity}
                if before.get("password") and not after.get("password"):
                    after["password"] = before["password"]  # as Airflow does
                self.objects[kind][entity[identifier]] = after
                done.append(entity[identifier])
            answer[action["action"]] = {"success": done, "errors": []}
        return answer

    def _page(self, asked: Asked, member: str, items: list[Json]) -> Json:
        limit = min(int(asked.query.get("limit", "50")), self.page_limit)
        offset = int(asked.query.get("offset", "0"))
        return {member: items[offset : offset + limit], "total_entries": len(items)}


def refused(status: int, detail: Any) -> httpx.Response:
    """A failure as Airflow words it."""
    return httpx.Response(status, json={"detail": detail})


def no_run(dag_id: str, run_id: str) -> httpx.Response:
    """The answer for a run that does not exist."""
    return refused(404, f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` was not found")


def line_of(event: str, **details: Any) -> Json:
    """A structured line of a task's log."""
    return {"timestamp": MOMENT.format(25), "event": event, "level": "info", **details}


_SECRET_NAME = re.compile("password|secret|token|api_key", re.IGNORECASE)


def masked(item: Json) -> Json:
    """An object as Airflow shows it: secrets are masked, JSON is written anew."""
    shown = {**item}
    if shown.get("password"):
        shown["password"] = "***"
    for member in ("extra", "value"):
        if isinstance(shown.get(member), str):
            shown[member] = _masked_text(str(shown.get("key", "")), shown[member])
    return shown


def _masked_text(name: str, text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return "***" if _SECRET_NAME.search(name) else text
    return json.dumps(_masked_value(name, value))


def _masked_value(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):
        return "***"
    if isinstance(value, dict):
        return {key: _masked_value(key, item) for key, item in value.items()}
    return [_masked_value("", item) for item in value] if isinstance(value, list) else value
