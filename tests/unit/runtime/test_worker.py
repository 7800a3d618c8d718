from __future__ import annotations

import ssl
import subprocess
import sys
import types

import pytest

from windsock.runtime import worker


def test_the_executors_arguments_are_those_of_the_program_after_its_name() -> None:
    arguments = [*worker.PREFIX, "--json-string", '{"ti": 1}']
    assert worker.options(arguments) == ["--json-string", '{"ti": 1}']


@pytest.mark.parametrize("option", ["--json-string", "--json-path"])
def test_by_hand_the_options_suffice(option: str) -> None:
    assert worker.options([option, "value"]) == [option, "value"]


@pytest.mark.parametrize("arguments", [[], ["airflow", "tasks", "run"], ["python", "-m", "other"]])
def test_another_program_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        worker.options(arguments)
    assert worker.PROGRAM in str(caught.value)


PROGRAM = """
import atexit, sys, threading, types
from windsock.runtime import worker

program = types.ModuleType(worker.PROGRAM)
program.main = lambda: {body}
parts = worker.PROGRAM.split(".")
for number in range(len(parts)):
    sys.modules[".".join(parts[: number + 1])] = program
worker.IMPORTS = ()
sys.argv = ["worker", "--json-string", "x"]
worker.main()
"""


def ended(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_registered_for_the_end_runs_and_what_was_printed_arrives() -> None:
    done = ended("(atexit.register(print, 'at the end'), sys.stdout.write('printed '))")
    assert (done.returncode, done.stdout) == (0, "printed at the end\n"), done.stderr


def test_a_thread_that_still_works_is_waited_for() -> None:
    done = ended("threading.Timer(0.2, print, ['from a thread']).start()")
    assert (done.returncode, done.stdout) == (0, "from a thread\n"), done.stderr


def test_a_failure_keeps_its_exit_code() -> None:
    assert ended("sys.exit(3)").returncode == 3


class Client:
    """As Airflow's: it reads all authorities."""

    @staticmethod
    def _get_ssl_context_cached(*_: object, **__: object) -> ssl.SSLContext:
        return ssl.create_default_context()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    module = types.ModuleType("airflow.sdk.api.client")
    fresh = type("Client", (Client,), dict(Client.__dict__))
    module.Client = fresh  # type: ignore[attr-defined] # of this module
    for name in ("airflow", "airflow.sdk", "airflow.sdk.api", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return fresh


def authorities(client: type[Client]) -> int:
    return client._get_ssl_context_cached(None, None).cert_store_stats()["x509"]


def test_over_plain_http_no_authorities_are_read_and_none_would_be_trusted(
    client: type[Client],
) -> None:
    worker.trust_nobody_where_none_is_asked({worker.API_VARIABLE: "http://api:8080/execution/"})
    context = client._get_ssl_context_cached()
    assert authorities(client) == 0
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("environment", [{}, {worker.API_VARIABLE: "https://api:8443/execution/"}])
def test_over_tls_airflows_own_authorities_are_read(
    client: type[Client], environment: dict[str, str]
) -> None:
    before = authorities(client)
    worker.trust_nobody_where_none_is_asked(environment)
    assert authorities(client) == before
