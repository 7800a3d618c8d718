from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.unit.airflow.fake_airflow import (
    PASSWORD,
    URL,
    FakeAirflow,
    FakeDag,
    FakeTask,
    VirtualClock,
    line_of,
)
from windsock.airflow.api import Airflow, NoAnswer, NotFound, RequestRefused, StillGoing
from windsock.errors import (
    ConfigurationError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def fake() -> FakeAirflow:
    return FakeAirflow(
        FakeDag("sales", tasks=[FakeTask("load", xcom=3)]), FakeDag("never", looks=10**9)
    )


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Airflow:
    """A client of an Airflow that lets everybody log in, and answers all else in this way."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        return answer(request)

    return Airflow(URL, "admin", PASSWORD, transport=httpx.MockTransport(handle))


def test_one_login_serves_many_requests(fake: FakeAirflow) -> None:
    api = fake.client()
    api.version()
    api.dags()
    assert fake.paths("POST") == ["/auth/token"]


def test_an_expired_token_is_renewed_and_the_request_sent_again(fake: FakeAirflow) -> None:
    api = fake.client()
    api.dags()
    fake.expire_tokens()
    run = api.trigger("sales", run_id="once")
    assert run.state == "queued"
    assert list(fake.runs) == [("sales", "once")]
    assert fake.paths("POST").count("/auth/token") == 2


def test_an_expired_token_does_not_end_a_wait(fake: FakeAirflow) -> None:
    api = fake.client()
    api.trigger("sales", run_id="once")
    fake.expire_tokens()
    assert api.wait("sales", "once", timeout=5).state == "success"
    assert fake.paths("POST").count("/auth/token") == 2


def test_a_wrong_password_is_an_error_that_does_not_show_it(fake: FakeAirflow) -> None:
    api = Airflow(URL, "admin", "wrong-secret", transport=httpx.MockTransport(fake.handle))
    with pytest.raises(EnvironmentFailure) as caught:
        api.dags()
    assert "'admin'" in caught.value.message
    assert "wrong-secret" not in str(caught.value)


def test_a_token_that_is_never_accepted_ends_in_an_error_not_in_a_loop() -> None:
    api = answering(lambda _: httpx.Response(401, json={"detail": "Invalid JWT token"}))
    with pytest.raises(EnvironmentFailure, match="Invalid JWT token"):
        api.dags()


@pytest.mark.parametrize(
    ("error", "raised", "message", "hint"),
    [
        (httpx.ConnectError("refused"), EnvironmentFailure, "does not answer at", "invoke up"),
        (httpx.ReadTimeout("late"), DeadlineExceeded, "did not answer GET", "invoke status"),
    ],
)
def test_no_answer_names_the_url_and_what_to_run(
    error: httpx.TransportError, raised: type[WindsockError], message: str, hint: str
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(raised, match=message) as caught:
        answering(fail).version()
    assert URL in caught.value.message
    assert hint in caught.value.hint


def test_a_server_error_is_an_environment_failure() -> None:
    api = answering(lambda _: httpx.Response(500, text="Internal Server Error"))
    with pytest.raises(EnvironmentFailure, match=r"\(500\): Internal Server Error"):
        api.dags()


def test_airflows_own_words_are_in_the_error(fake: FakeAirflow) -> None:
    api = fake.client()
    with pytest.raises(NotFound, match="The Dag with ID: `nope` was not found"):
        api.dag("nope")
    api.trigger("sales", run_id="twice")
    with pytest.raises(RequestRefused, match="Unique constraint violation") as caught:
        api.trigger("sales", run_id="twice")
    assert caught.value.status == 409


def test_what_was_sent_is_not_in_the_error(fake: FakeAirflow) -> None:
    entity = {"connection_id": "a b", "conn_type": "http", "password": "hush"}
    with pytest.raises(ConfigurationError, match="connection_id: String should match") as caught:
        fake.client().change_objects("connections", write=[entity])
    assert "hush" not in str(caught.value)


def test_errors_inside_a_bulk_answer_are_raised() -> None:
    errors = [{"error": "the pool is odd", "status_code": 400}]
    answer = {"create": {"success": [], "errors": errors}}
    with pytest.raises(ConfigurationError, match="the pool is odd"):
        answering(lambda _: httpx.Response(200, json=answer)).change_objects(
            "pools", write=[{"name": "p", "slots": 1}]
        )


def test_collections_are_read_page_by_page() -> None:
    fake = FakeAirflow(*(FakeDag(f"dag_{number:03}") for number in range(7)))
    fake.page_limit = 3
    assert [dag.dag_id for dag in fake.client().dags()] == [f"dag_{n:03}" for n in range(7)]
    assert fake.paths("GET") == ["/api/v2/dags"] * 3


def test_a_collection_that_shrinks_while_it_is_read_ends() -> None:
    page = {"dags": [], "total_entries": 5}
    assert answering(lambda _: httpx.Response(200, json=page)).dags() == []


def test_ids_are_quoted_in_paths(fake: FakeAirflow) -> None:
    seen: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return fake.handle(request)

    api = Airflow(URL, "admin", PASSWORD, transport=httpx.MockTransport(handle))
    with pytest.raises(NotFound):
        api.run("a/b ü", "manual__2026-01-01T00:00:00+00:00")
    assert seen[-1] == (
        b"/api/v2/dags/a%2Fb%20%C3%BC/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    )


def test_waiting_follows_the_stream_without_polling(fake: FakeAirflow) -> None:
    api = fake.client()
    api.trigger("sales", run_id="r")
    assert api.wait("sales", "r", timeout=5).state == "success"
    assert fake.paths("GET") == [
        "/api/v2/dags/sales/dagRuns/r/wait",
        "/api/v2/dags/sales/dagRuns/r",
    ]


@pytest.mark.parametrize("trouble", ["missing", "breaks"])
def test_waiting_polls_where_the_stream_does_not_help(fake: FakeAirflow, trouble: str) -> None:
    fake.has_wait, fake.wait_breaks = trouble != "missing", trouble == "breaks"
    fake.dags["sales"].looks = 5
    clock = VirtualClock()
    api = fake.client(clock)
    api.trigger("sales", run_id="r")
    assert api.wait("sales", "r", timeout=60).state == "success"
    assert 0 < clock.now < 60


def test_waiting_too_long_is_a_failure_that_names_the_page(fake: FakeAirflow) -> None:
    fake.has_wait = False
    clock = VirtualClock()
    api = fake.client(clock)
    api.trigger("never", run_id="r")
    with pytest.raises(DeadlineExceeded, match="still running after 3 s") as caught:
        api.wait("never", "r", timeout=3)
    assert caught.value.hint.endswith("/dags/never/runs/r")
    assert 3 <= clock.now < 4


def test_waiting_for_a_run_that_does_not_exist_fails_at_once(fake: FakeAirflow) -> None:
    with pytest.raises(NotFound):
        fake.client().wait("sales", "nope", timeout=60)


def test_a_stream_is_asked_for_uncompressed(fake: FakeAirflow) -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/wait"):
            seen.append(request.headers["accept-encoding"])
        return fake.handle(request)

    api = Airflow(URL, "admin", PASSWORD, transport=httpx.MockTransport(handle))
    api.trigger("sales", run_id="r")
    api.wait("sales", "r", timeout=5)
    assert seen == ["identity"]


def test_a_running_run_must_be_stopped_before_it_is_deleted(fake: FakeAirflow) -> None:
    api = fake.client()
    api.trigger("never", run_id="r")
    assert api.run("never", "r").state == "running"
    with pytest.raises(RequestRefused, match="cannot be deleted in running state"):
        api.delete_run("never", "r")
    assert api.stop("never", "r").state == "failed"
    api.delete_run("never", "r")
    assert api.runs("never") == []


def test_a_log_is_read_through_its_pages() -> None:
    pages = {
        None: {"content": [{"event": "one"}], "continuation_token": "next"},
        "next": {"content": ["two"], "continuation_token": "last"},
        "last": {"content": [], "continuation_token": "last"},
    }

    asked: list[str | None] = []

    def page(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("token"))
        return httpx.Response(200, json=pages[asked[-1]])

    lines = answering(page).log("sales", "r", "load", try_number=1)
    assert [line.text() for line in lines] == ["one", "two"]
    assert asked == [None, "next", "last"]


def logged(line: dict[str, Any]) -> str:
    """The text of a line in a task's log."""
    fake = FakeAirflow(FakeDag("sales", tasks=[FakeTask("load", log=[line])]))
    api = fake.client()
    api.trigger("sales", run_id="r")
    return api.log("sales", "r", "load", try_number=1)[1].text()


def test_a_log_line_reads_like_a_log_line() -> None:
    line = line_of("loaded", rows=3, ti_id="x", logger="task")
    assert logged(line) == "15:36:25.000 INFO loaded rows=3"


def test_a_traceback_in_a_log_starts_at_the_users_own_code() -> None:
    own = {"filename": "/shop/dags/sales.py", "lineno": 28, "name": "load"}
    airflows = {
        "filename": "/venv/lib/python3.11/site-packages/airflow/sdk/bases/operator.py",
        "lineno": 462,
        "name": "wrapper",
    }
    error = {"exc_type": "ValueError", "exc_value": "boom", "frames": [airflows, airflows, own]}
    line = line_of("Task failed with exception", error_detail=[error])
    assert logged(line).splitlines()[1:] == [
        "Traceback (most recent call last):",
        "  (2 frames of Airflow)",
        '  File "/shop/dags/sales.py", line 28, in load',
        "ValueError: boom",
    ]


def test_nothing_to_change_asks_nothing(fake: FakeAirflow) -> None:
    fake.client().change_objects("variables")
    assert fake.requests == []


def test_the_ui_pages_are_named_as_airflow_does(fake: FakeAirflow) -> None:
    api = fake.client()
    assert api.run_url("sales", "r+1") == f"{URL}/dags/sales/runs/r%2B1"


def silent(fake: FakeAirflow, *, times: int) -> None:
    """Let Airflow leave so many looks at a run unanswered, from now on."""
    left = times

    def late(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise httpx.ReadTimeout("late")
        return FakeAirflow.get_run(fake, *arguments[1:])

    [pattern] = [
        pattern for method, pattern, handler in fake.routes if handler is FakeAirflow.get_run
    ]
    fake.routes.insert(0, ("GET", pattern, late))


def test_a_request_that_is_not_answered_is_no_verdict_on_a_run() -> None:
    fake = FakeAirflow(FakeDag("sales"))
    fake.has_wait = False
    api = fake.client()
    api.trigger("sales", run_id="r")
    silent(fake, times=3)
    assert api.wait("sales", "r", timeout=5).state == "success"


def test_an_airflow_that_is_silent_to_the_end_says_nothing_about_a_run() -> None:
    fake = FakeAirflow(FakeDag("sales"))
    fake.has_wait = False
    api = fake.client()
    api.trigger("sales", run_id="r")
    silent(fake, times=10**9)
    with pytest.raises(NoAnswer, match=r"did not answer GET .* within 180 s") as caught:
        api.wait("sales", "r", timeout=5)
    assert not isinstance(caught.value, StillGoing)
