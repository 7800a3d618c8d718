"""A fake of Airflow's REST API behind an httpx transport: the shapes recorded from Airflow 3.3.2.

tests/contract/airflow runs the same cases against this fake and against a real Airflow, so that the
fake cannot drift away unseen.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import httpx

from windsock.airflow.api import Airflow

if TYPE_CHECKING:
    from collections.abc import Callable

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
    starts: str | None = None
    """The DAG that an asset of this one starts."""


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
        self.objects: dict[str, dict[str, Json]] = {"connections": {}, "variables": {}, "pools": {}}
        self.objects["pools"]["default_pool"] = {
            "name": "default_pool",
            "slots": 128,
            "description": "Default pool",
        }
        self.routes: list[tuple[str, re.Pattern[str], Callable[..., httpx.Response]]] = [
            (method, re.compile(pattern + "$"), handler)
            for method, pattern, handler in (
                ("GET", "/version", self._version),
                ("GET", "/dags", self._list_dags),
                ("GET", "/dags/([^/]+)", self._get_dag),
                ("PATCH", "/dags/([^/]+)", self._patch_dag),
                ("GET", "/dags/([^/]+)/tasks", self._list_tasks),
                ("GET", "/importErrors", self._list_import_errors),
                ("GET", "/assets/events", self._list_events),
                ("GET", "/dags/([^/]+)/dagRuns", self._list_runs),
                ("POST", "/dags/([^/]+)/dagRuns", self._trigger),
                ("GET", "/dags/([^/]+)/dagRuns/([^/]+)", self._get_run),
                ("PATCH", "/dags/([^/]+)/dagRuns/([^/]+)", self._patch_run),
                ("DELETE", "/dags/([^/]+)/dagRuns/([^/]+)", self._delete_run),
                ("GET", "/dags/([^/]+)/dagRuns/([^/]+)/wait", self._wait),
                ("GET", "/dags/([^/]+)/dagRuns/([^/]+)/taskInstances", self._list_instances),
                (
                    "GET",
                    "/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)(?:/([0-9]+))?/tries",
                    self._list_tries,
                ),
                (
                    "GET",
                    "/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/logs/([0-9]+)",
                    self._get_log,
                ),
                (
                    "GET",
                    "/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/xcomEntries/(.+)",
                    self._get_xcom,
                ),
                ("GET", "/(connections|variables|pools)", self._list_objects),
                ("PATCH", "/(connections|variables|pools)", self._bulk),
            )
        ]

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
        path = unquote(request.url.raw_path.decode().partition("?")[0])
        self.requests.append((request.method, path))
        body = json.loads(request.content) if request.content else None
        self.bodies.append(body)
        if path == "/auth/token":
            return self._log_in(body)
        if request.headers.get("authorization") != f"Bearer token-{self.tokens}":
            return refused(401, "Invalid JWT token")
        quoted = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v2")
        for method, pattern, handler in self.routes:
            if method == request.method and (match := pattern.match(quoted)):
                parts = [unquote(part) if part else None for part in match.groups()]
                return handler(request, body, *parts)
        return refused(404, "Not Found")

    # The API

    def _log_in(self, body: Json | None) -> httpx.Response:
        if body != {"username": USER, "password": PASSWORD}:
            return refused(401, "Invalid credentials")
        self.tokens += 1
        return httpx.Response(201, json={"access_token": f"token-{self.tokens}"})

    def _version(self, *_: Any) -> httpx.Response:
        return httpx.Response(200, json={"version": "3.3.2", "git_version": None})

    def _list_dags(self, request: httpx.Request, *_: Any) -> httpx.Response:
        known = [self._dag(dag) for _, dag in sorted(self.dags.items()) if not dag.stale]
        return self._page(request, "dags", known)

    def _get_dag(self, _request: httpx.Request, _body: Any, dag_id: str) -> httpx.Response:
        if dag_id not in self.dags:
            return refused(404, f"The Dag with ID: `{dag_id}` was not found")
        return httpx.Response(200, json=self._dag(self.dags[dag_id]))

    def _patch_dag(self, _request: httpx.Request, body: Any, dag_id: str) -> httpx.Response:
        self.dags[dag_id].paused = body["is_paused"]
        return httpx.Response(200, json=self._dag(self.dags[dag_id]))

    def _dag(self, dag: FakeDag) -> Json:
        return {
            "dag_id": dag.dag_id,
            "is_paused": dag.paused,
            "is_stale": dag.stale,
            "last_parsed_time": MOMENT.format(15),
            "bundle_version": None,
            "relative_fileloc": dag.file,
            "timetable_summary": None,
            "tags": [],
            "has_import_errors": dag.file in self.import_errors,
        }

    def _list_tasks(self, _request: httpx.Request, _body: Any, dag_id: str) -> httpx.Response:
        tasks = {
            task.task_id: {
                "task_id": task.task_id,
                "operator_name": "@task",
                "is_mapped": task.map_index >= 0,
                "downstream_task_ids": [],
            }
            for task in self.dags[dag_id].tasks
        }
        return httpx.Response(
            200, json={"tasks": list(tasks.values()), "total_entries": len(tasks)}
        )

    def _list_import_errors(self, request: httpx.Request, *_: Any) -> httpx.Response:
        errors = [
            {"filename": file, "stack_trace": text, "timestamp": MOMENT.format(2)}
            for file, text in self.import_errors.items()
        ]
        return self._page(request, "import_errors", errors)

    def _list_events(self, request: httpx.Request, *_: Any) -> httpx.Response:
        asked = parse_qs(request.url.query.decode())
        source = (asked["source_dag_id"][0], asked["source_run_id"][0])
        dag = self.dags.get(source[0])
        events: list[Json] = []
        if dag is not None and dag.starts is not None and source in self.runs:
            started = (dag.starts, f"asset_triggered__{source[1]}")
            if not self.dags[dag.starts].paused and started not in self.runs:
                self._start(*started, conf={}, run_type="asset_triggered")
            runs = [{"dag_id": started[0], "run_id": started[1]}] if started in self.runs else []
            events = [{"name": "an_asset", "uri": "an_asset", "created_dagruns": runs}]
        return self._page(request, "asset_events", events)

    def _list_runs(self, request: httpx.Request, _body: Any, dag_id: str) -> httpx.Response:
        prefix = parse_qs(request.url.query.decode()).get("run_id_prefix_pattern", [""])[0]
        runs = [
            run
            for (own, run_id), run in self.runs.items()
            if dag_id in ("~", own) and run_id.startswith(prefix)
        ]
        return self._page(request, "dag_runs", runs)

    def _trigger(self, _request: httpx.Request, body: Any, dag_id: str) -> httpx.Response:
        if dag_id not in self.dags or self.dags[dag_id].stale:
            return refused(404, f"Dag with dag_id: '{dag_id}' not found")
        if "logical_date" not in body:
            missing = {"type": "missing", "loc": ["body", "logical_date"], "msg": "Field required"}
            return refused(422, [{**missing, "input": body}])
        run_id = body.get("dag_run_id") or f"manual__{len(self.runs)}"
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
        return httpx.Response(200, json=self._start(dag_id, run_id, conf=body["conf"]))

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

    def _get_run(
        self, _request: httpx.Request, _body: Any, dag_id: str, run_id: str
    ) -> httpx.Response:
        run = self._look((dag_id, run_id))
        return httpx.Response(200, json=run) if run else no_run(dag_id, run_id)

    def _patch_run(
        self, _request: httpx.Request, body: Any, dag_id: str, run_id: str
    ) -> httpx.Response:
        run = self.runs.get((dag_id, run_id))
        if run is None:
            return no_run(dag_id, run_id)
        run.update(state=body["state"], end_date=MOMENT.format(40))
        return httpx.Response(200, json=run)

    def _delete_run(
        self, _request: httpx.Request, _body: Any, dag_id: str, run_id: str
    ) -> httpx.Response:
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

    def _wait(
        self, _request: httpx.Request, _body: Any, dag_id: str, run_id: str
    ) -> httpx.Response:
        if not self.has_wait:
            return refused(404, "Not Found")
        if (dag_id, run_id) not in self.runs:
            return no_run(dag_id, run_id)
        lines = []
        for _ in range(100):
            run = self._look((dag_id, run_id)) or {}
            lines.append(json.dumps({"state": run["state"]}))
            if run["state"] in ("success", "failed") or self.wait_breaks:
                break
        return httpx.Response(200, content="\n".join(lines).encode() + b"\n")

    def _list_instances(
        self, request: httpx.Request, _body: Any, dag_id: str, run_id: str
    ) -> httpx.Response:
        if (dag_id, run_id) not in self.runs:
            return no_run(dag_id, run_id)
        instances = [self._instance(run_id, task) for task in self.dags[dag_id].tasks]
        return self._page(request, "task_instances", instances)

    def _instance(self, run_id: str, task: FakeTask, try_number: int | None = None) -> Json:
        number = task.tries if try_number is None else try_number
        started = task.tries > 0
        return {
            "task_id": task.task_id,
            "dag_run_id": run_id,
            "map_index": task.map_index,
            "state": task.state if number == task.tries else "failed",
            "try_number": number,
            "start_date": MOMENT.format(20 + number) if started else None,
            "end_date": MOMENT.format(21 + number) if started else None,
            "operator_name": "@task",
            "dag_version": {"bundle_version": None},
        }

    def _list_tries(
        self,
        _request: httpx.Request,
        _body: Any,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: str | None,
    ) -> httpx.Response:
        task = self._task(dag_id, task_id, -1 if map_index is None else int(map_index))
        if task is None:
            return refused(404, "The Task Instance was not found")
        tries = [self._instance(run_id, task, number + 1) for number in range(task.tries)]
        return httpx.Response(200, json={"task_instances": tries, "total_entries": len(tries)})

    def _get_log(
        self,
        request: httpx.Request,
        _body: Any,
        dag_id: str,
        run_id: str,
        task_id: str,
        number: str,
    ) -> httpx.Response:
        asked = parse_qs(request.url.query.decode())
        task = self._task(dag_id, task_id, int(asked.get("map_index", ["-1"])[0]))
        if task is None or (dag_id, run_id) not in self.runs or not 1 <= int(number) <= task.tries:
            return refused(404, "TaskInstance not found")
        start: list[Json] = [{"event": "::group::Log message source details"}]
        end = [line_of("::group::Post Execute"), line_of("::endgroup::")]
        late, self.late_log_lines = self.late_log_lines, []
        content = [*start, *task.log] + ([] if late else end)
        task.log += late
        return httpx.Response(200, json={"content": content, "continuation_token": None})

    def _get_xcom(
        self, request: httpx.Request, _body: Any, dag_id: str, run_id: str, task_id: str, key: str
    ) -> httpx.Response:
        asked = parse_qs(request.url.query.decode())
        task = self._task(dag_id, task_id, int(asked.get("map_index", ["-1"])[0]))
        known = (dag_id, run_id) in self.runs and task is not None and key == "return_value"
        if not known or task is None or task.xcom is None:
            return refused(404, f"XCom entry with key: `{key}` not found")
        return httpx.Response(200, json={"key": key, "value": task.xcom})

    def _task(self, dag_id: str, task_id: str, map_index: int) -> FakeTask | None:
        for task in self.dags[dag_id].tasks:
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        return None

    def _list_objects(self, request: httpx.Request, _body: Any, kind: str) -> httpx.Response:
        shown = [masked(item) for item in self.objects[kind].values()]
        return self._page(request, kind, shown)

    def _bulk(self, _request: httpx.Request, body: Any, kind: str) -> httpx.Response:
        identifier = {"connections": "connection_id", "variables": "key", "pools": "name"}[kind]
        answer: Json = {"create": None, "update": None, "delete": None}
        # The deletions reach the database last, whatever their place.
        for action in sorted(body["actions"], key=lambda item: item["action"] == "delete"):
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
        return httpx.Response(200, json=answer)

    def _page(self, request: httpx.Request, member: str, items: list[Json]) -> httpx.Response:
        asked = parse_qs(request.url.query.decode())
        limit = min(int(asked.get("limit", ["50"])[0]), self.page_limit)
        offset = int(asked.get("offset", ["0"])[0])
        page = items[offset : offset + limit]
        return httpx.Response(200, json={member: page, "total_entries": len(items)})


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
