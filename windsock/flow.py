"""What each command does, as one visible sequence of steps."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import windsock
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.rebuild import Rebuilder, beside
from windsock.sync.control import ControlClient
from windsock.targets import choose, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windsock.airflow.api import Airflow
    from windsock.config import Settings
    from windsock.console import Console
    from windsock.targets.base import Checker, Target

FIRST_PARSE_SECONDS = 15.0
"""How long `up` waits for the first parse of the whole DAG folder before it only says so."""

RESTART_SECONDS = 10.0
"""How long a sync process that ended is waited for: its supervisor starts it again."""

DIFFERS = 1
"""The exit code of `invoke diff` when something would change; as diff(1) and `kubectl diff`."""

PYTEST_NOTHING_RAN = 5
"""pytest's exit code when it collected no test."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What every flow works on."""

    settings: Settings
    console: Console

    def target(self) -> Target:
        """The target that the settings name."""
        return choose.target(self.settings)

    def checker(self) -> Checker:
        """Where DAGs are imported without a running Airflow."""
        return choose.checker(self.settings)

    def environment(self) -> Environment:
        """The environment that is up.

        Raises:
            EnvironmentFailure: None is.
        """
        return Environment.load(self.settings.state_folder)


def airflow_client(environment: Environment) -> Airflow:
    """A client of the environment's REST API."""
    from windsock.airflow.api import Airflow  # noqa: PLC0415 - httpx only where it is used

    return Airflow.of(environment)


# --- up, attach, down -----------------------------------------------------------------------------


def up(work: Workspace, *, detach: bool) -> int:
    """Bring everything up, then tell what comes of each save until Ctrl-C.

    Returns:
        An exit code.
    """
    console = work.console
    target = work.target()
    # Made first: an edit while it comes up is one, too.
    rebuilder = Rebuilder(
        work.settings,
        console,
        target=work.target,
        running=target,
        show=lambda: show_dags(work, work.environment()),
    )
    environment = target.running()
    started_here = environment is None
    if environment is None:
        environment = bring_up(work, target)
    else:
        import_settings(work, environment)
        console.good("already up")
    if detach:
        _announce(console, environment, detach=True)
        return 0
    try:
        _announce(console, environment, detach=False)
        return beside(
            lambda left: follow(work, environment, stops=started_here, left=left), rebuilder.look
        )
    except KeyboardInterrupt:
        console.line()
        if not started_here:
            console.line("left running; `invoke down` stops it")
        return 0
    finally:
        if started_here:
            work.target().end(console)


def deploy(work: Workspace) -> None:
    """Bring the environment up in its cluster, DAGs included, and leave nothing running here.

    Raises:
        DeadlineExceeded: Airflow did not parse the DAG folder in time.
    """
    target = choose.cluster_target(work.settings)
    environment = bring_up(work)
    try:
        ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)
    finally:
        target.leave(work.console)


def join(work: Workspace) -> int:
    """Sync into what others deployed, and tell what comes of each save, until Ctrl-C.

    Returns:
        An exit code.
    """
    target = choose.cluster_target(work.settings)
    environment = _bring_up(work, target, prepare=_nothing, deploy=target.join)
    try:
        work.console.line("watching for saves; Ctrl-C ends the sync and nothing else")
        return follow(work, environment, stops=True)
    except KeyboardInterrupt:
        work.console.line()
        return 0
    finally:
        target.leave(work.console)


def _nothing(_console: Console) -> None:
    """Others have prepared it."""


def secret(work: Workspace) -> None:
    """Make the namespace and its Secret, for what others deploy."""
    target = choose.cluster_target(work.settings)
    with target.bringing_up(), work.console.step("namespace and Secret"):
        target.ensure_secret()


def bring_up(work: Workspace, target: Target | None = None) -> Environment:
    """Start what is missing and wait until all of it is healthy.

    An interrupt or a failure on the way stops again what runs, so that nothing is left half up;
    but an environment that is up already goes on if what it shall become cannot be built.

    Args:
        work: The workspace.
        target: Its target, if there is one already.
    """
    target = target or work.target()
    return _bring_up(work, target, prepare=target.prepare, deploy=target.deploy)


def _bring_up(
    work: Workspace,
    target: Target,
    *,
    prepare: Callable[[Console], None],
    deploy: Callable[[Console], None],
) -> Environment:
    started = time.monotonic()
    work.console.line(f"target: {choose.explain(work.settings)}")
    goes_on = (work.settings.state_folder / ENVIRONMENT_FILE).exists()
    with target.bringing_up():
        try:
            prepare(work.console)
            goes_on = False
            deploy(work.console)
            environment = target.wait(work.console)
            environment.save(work.settings.state_folder)
            import_settings(work, environment)
            show_dags(work, environment)
        except BaseException:
            if goes_on:
                work.console.warn("what ran before goes on as it was")
            else:
                target.give_up(work.console)
            raise
    work.console.good(f"up in {time.monotonic() - started:.1f} s")
    return environment


def show_dags(work: Workspace, environment: Environment) -> None:
    """Say how many DAGs there are, and show every file that does not import."""
    from windsock.airflow.feedback import show_error  # noqa: PLC0415 - only here

    client = ControlClient(environment.control_socket)
    try:
        settled = client.barrier(timeout=FIRST_PARSE_SECONDS)
    except DeadlineExceeded as error:
        # A DAG folder may be large, or a file may hang: neither must keep Airflow from its users.
        work.console.warn(error.message)
        return
    except EnvironmentFailure as error:
        if not client.status()["halted"]:
            raise
        work.console.error(error)  # It must be up for its hint, `invoke sync --allow-empty`.
        return
    work.console.good(f"{len(settled.dags)} DAGs parsed")
    for path, trace in sorted(settled.errors.items()):
        show_error(work.console, path, trace, folder=environment.dags_folder)


def import_settings(work: Workspace, environment: Environment) -> None:
    """Import connections, variables and pools, if their file changed since the last time."""
    from windsock.airflow.importing import import_settings as run  # noqa: PLC0415 - httpx, yaml

    settings = work.settings
    path = settings.path(settings.airflow_settings)
    changes = run(path, environment, state_folder=settings.state_folder)
    if changes is not None:
        work.console.good(f"settings from {path.name}: {changes.summary() or 'nothing in it'}")


def _announce(console: Console, environment: Environment, *, detach: bool) -> None:
    console.line()
    console.line(f"  Airflow {environment.airflow}   {environment.url}", "strong")
    console.line(f"  user {environment.user}, password in {environment.password_file}")
    console.line(f"  DAGs in {environment.dags_folder}")
    console.line()
    if detach:
        console.line("  saves are synced in the background: `invoke sync` shows them,")
        console.line("  `invoke test` runs the DAG tests, `invoke down` stops everything")
    else:
        console.line("  watching for saves; Ctrl-C to stop")


def attach(work: Workspace, *, allow_empty: bool, take_over: bool = False) -> int:
    """Show the saves of an environment that is up; Ctrl-C leaves it running."""
    environment = work.environment()
    if take_over:
        before = ControlClient(environment.control_socket).take_over()
        work.console.good("the sync is ours now" if before else "the sync was ours already")
        if before:
            work.console.line(f"  before: {before}")
    if allow_empty:
        ControlClient(environment.control_socket).allow_empty()
        work.console.good("the emptied folder is synced")
        return 0
    folder = environment.dags_folder
    try:
        work.console.line(f"watching {folder}; Ctrl-C leaves the environment running")
        return follow(work, environment, stops=False)
    except KeyboardInterrupt:
        return 0


def follow(
    work: Workspace,
    environment: Environment,
    *,
    stops: bool,
    left: threading.Event | None = None,
) -> int:
    """Print the feedback of each save until the environment ends or is interrupted.

    Args:
        work: The workspace.
        environment: Which is up.
        stops: Whether this process stops the environment in the end.
        left: Set when nobody listens any more.

    Returns:
        An exit code.
    """
    from windsock.airflow.feedback import Feedback  # noqa: PLC0415 - only the loop needs it

    feedback = Feedback(work.console, environment.dags_folder)
    client = ControlClient(environment.control_socket)
    left = left or threading.Event()
    while True:
        for event in client.attach():
            if not left.is_set():
                feedback.show(event)
        if left.is_set():
            return 0
        # The sync process has ended: it is restarted after a crash, and gone after `invoke down`.
        if not _comes_back(work, client):
            if not stops:
                work.console.line("the environment was stopped")
                return 0
            work.console.warn("the sync process is gone")
            return WindsockError.exit_code


def _comes_back(work: Workspace, client: ControlClient) -> bool:
    """Whether the sync process answers again; not waited for where `invoke down` took it away."""
    deadline = time.monotonic() + RESTART_SECONDS
    file = work.settings.state_folder / ENVIRONMENT_FILE
    while file.exists() and time.monotonic() < deadline:
        try:
            client.status()
        except WindsockError:
            time.sleep(0.2)
        else:
            return True
    return False


def down(work: Workspace, *, volumes: bool, cluster: bool = False) -> None:
    """Stop everything; with `cluster` also delete the kind cluster."""
    if not cluster:
        work.target().down(work.console, volumes=volumes)
        return
    target = choose.cluster_target(work.settings)
    target.delete_cluster(work.console)
    target.down(work.console, volumes=True)  # Its database went with the cluster.


# --- images and manifests -------------------------------------------------------------------------


def build(work: Workspace) -> None:
    """Build the images that run in a cluster."""
    from windsock.cluster import image  # noqa: PLC0415 - heavy

    with work.console.step("images") as step:
        images = image.ensure(work.settings, progress=step.progress)
        step.detail = "built" if images.built else "unchanged"
    for name in (images.airflow, images.postgres):
        work.console.write(name)


def render(work: Workspace) -> None:
    """Print the manifests as YAML documents."""
    import yaml  # noqa: PLC0415 - only here

    objects = choose.cluster_target(work.settings).objects()
    work.console.write(yaml.safe_dump_all(objects, sort_keys=False).rstrip("\n"))


def diff(work: Workspace) -> int:
    """Print what would change; exit code 1 if anything would."""
    changes = choose.cluster_target(work.settings).diff()
    for name, text in changes:
        work.console.line(name, "strong")
        work.console.write(text)
    if not changes:
        work.console.good("nothing would change")
    return DIFFERS if changes else 0


# --- looking at it --------------------------------------------------------------------------------


def status(work: Workspace, *, as_json: bool) -> int:
    """Show every component, the sync, and how many DAGs there are."""
    components = work.target().status()
    sync: dict[str, Any] | None = None
    environment: Environment | None = None
    try:
        environment = work.environment()
        sync = ControlClient(environment.control_socket).status()
    except WindsockError:
        pass  # Nothing is up, or the sync is not: the table says so.
    healthy = bool(components) and all(
        item.state == "running" and item.healthy is not False for item in components
    )
    if as_json:
        work.console.json(
            {
                "healthy": healthy,
                "url": environment.url if environment else None,
                "components": [vars(item) for item in components],
                "sync": sync,
            }
        )
        return 0 if healthy else WindsockError.exit_code
    if not components:
        work.console.line("nothing is up; `invoke up` starts it")
        return WindsockError.exit_code
    for item in components:
        show = (
            work.console.good
            if item.state == "running" and item.healthy is not False
            else work.console.bad
        )
        show(f"{item.name:<14} {item.state:<9} {item.detail}")
    if environment is not None and sync is not None:
        work.console.line(f"{sync['summary']}")
        work.console.line(f"{environment.url}")
    return 0 if healthy else WindsockError.exit_code


def logs(work: Workspace, *, component: str, follow: bool, lines: int) -> None:
    """Print log lines."""
    if lines < 0:
        raise ConfigurationError(f"--lines is {lines}", "Give a number from 0.")
    target = work.target()
    _check_component(target, component)
    try:
        for line in target.logs(component or None, follow=follow, lines=lines):
            work.console.write(line)
    except KeyboardInterrupt:
        return


def restart(work: Workspace, *, component: str) -> None:
    """Restart one component or all."""
    target = work.target()
    _check_component(target, component)
    work.environment()
    target.restart(work.console, component or None)


def _check_component(target: Target, component: str) -> None:
    if component and component not in target.component_names():
        raise ConfigurationError(
            f"there is no component {component!r}",
            f"Choose one of: {', '.join(target.component_names())}.",
        )


def shell(work: Workspace, *, command: list[str]) -> int:
    """Run a command, or an interactive shell, in Airflow's environment."""
    environment = work.environment()
    if not command:
        work.console.line(f"a shell in Airflow's environment ({environment.target}); exit to leave")
    return work.target().shell(command)


def open_ui(work: Workspace) -> None:
    """Open the UI in the browser."""
    environment = work.environment()
    work.console.line(f"{environment.url}  user {environment.user}")
    work.console.line(f"password in {environment.password_file}")
    if not webbrowser.open(environment.url):
        work.console.warn("no browser could be opened here; open the address above")


def version(work: Workspace, *, as_json: bool) -> None:
    """Print versions."""
    found = {
        "windsock": windsock.__version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "airflow": versions.airflow_version(work.settings),
    }
    if as_json:
        work.console.json(found)
    else:
        for name, value in found.items():
            work.console.write(f"{name} {value}")


# --- DAGs -----------------------------------------------------------------------------------------


def dags_list(work: Workspace, *, as_json: bool) -> None:
    """List the DAGs Airflow knows."""
    dags = airflow_client(work.environment()).dags()
    rows = [
        {
            "dag_id": dag.dag_id,
            "file": dag.file,
            "paused": dag.paused,
            "import_error": dag.import_errors,
        }
        for dag in dags
    ]
    if as_json:
        work.console.json(rows)
        return
    width = max((len(str(row["dag_id"])) for row in rows), default=0)
    for row in rows:
        note = "  (paused)" if row["paused"] else ""
        note += "  (its file does not import any more)" if row["import_error"] else ""
        work.console.write(f"{row['dag_id']:<{width}}  {row['file']}{note}")


def dags_errors(work: Workspace, *, as_json: bool) -> int:
    """Show import errors; exit code 1 when there are any."""
    from windsock.airflow.feedback import show_error  # noqa: PLC0415 - only here

    environment = work.environment()
    settled = ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)
    if as_json:
        work.console.json(settled.errors)
    else:
        for path, trace in sorted(settled.errors.items()):
            show_error(work.console, path, trace, folder=environment.dags_folder)
        if not settled.errors:
            work.console.good(f"all files import ({len(settled.dags)} DAGs)")
    return DagError.exit_code if settled.errors else 0


def dags_trigger(
    work: Workspace, *, dag_id: str, conf: str, wait: bool, timeout: float, as_json: bool
) -> int:
    """Trigger a run on exactly what is on disk; with `wait`, exit code 1 unless it succeeds."""
    environment = work.environment()
    configuration = _json_object(conf)
    deadline = time.monotonic() + timeout
    ControlClient(environment.control_socket).barrier(timeout=timeout)
    client = airflow_client(environment)
    if wait and client.dag(dag_id).paused:
        raise ConfigurationError(
            f"{dag_id} is paused: its run would not start",
            f"Unpause it in the UI, or by `invoke shell -- airflow dags unpause {dag_id}`.",
        )
    run = client.trigger(dag_id, conf=configuration)
    url = client.run_url(dag_id, run.run_id)
    if not as_json:
        work.console.good(f"{dag_id}: run {run.run_id} is queued  {url}")
    if wait:
        run = client.wait(dag_id, run.run_id, timeout=max(0.0, deadline - time.monotonic()))
    if as_json:
        work.console.json({"dag_id": dag_id, "run_id": run.run_id, "state": run.state, "url": url})
    elif wait:
        show = work.console.good if run.state == "success" else work.console.bad
        show(f"{dag_id}: {run.state}")
    return DagError.exit_code if wait and run.state != "success" else 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigurationError(
            f"--conf is no JSON: {error}", """Write it like --conf '{"day": "2026-01-01"}'."""
        ) from error
    if not isinstance(value, dict):
        raise ConfigurationError("--conf must be a JSON object", """Like '{"day": 1}'.""")
    return value


def dags_check(work: Workspace, *, as_json: bool) -> int:
    """Import every DAG without a running Airflow; exit code 1 when one does not import."""
    from windsock.airflow.feedback import show_error  # noqa: PLC0415 - only here

    checker = work.checker()
    folder = work.settings.dags_folder.resolve()
    checker.prepare(work.console)
    outcomes: list[dict[str, Any]] = []
    owners: dict[str, str] = {}
    for outcome in checker.check(str(folder)):
        for dag_id in outcome["dags"]:
            if dag_id in owners:
                outcome["errors"][outcome["file"]] = (
                    f"DAG id {dag_id!r} is also defined in {owners[dag_id]}"
                )
            owners.setdefault(dag_id, outcome["file"])
        outcomes.append(outcome)
        if as_json:
            continue
        for path, trace in outcome["errors"].items():
            show_error(work.console, path, trace, folder=str(folder))
        if not outcome["errors"]:
            dags = ", ".join(sorted(outcome["dags"])) or "no DAG"
            work.console.good(f"{outcome['file']}: {dags}  {outcome['seconds']:.2f} s")
    if as_json:
        work.console.json(outcomes)
    broken = sum(bool(outcome["errors"]) for outcome in outcomes)
    work.console.line(f"{len(outcomes)} files, {len(owners)} DAGs, {broken} broken")
    return DagError.exit_code if broken else 0


def settings_export(work: Workspace, *, output: str) -> None:
    """Write connections, variables and pools as YAML."""
    from windsock.airflow import objects  # noqa: PLC0415 - yaml only where it is used

    text = objects.export(airflow_client(work.environment()))
    if not output:
        work.console.write(text.rstrip("\n"))
        return
    path = work.settings.path(output)
    path.write_text(text, encoding="utf-8")
    work.console.good(f"wrote {path}")


# --- tests ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TestRequest:
    """What `invoke test` was asked for."""

    paths: tuple[str, ...] = ()
    keyword: str = ""
    affected: str = ""
    watch: bool = False
    junit: str = ""
    parallel: int = 0

    def arguments(self, settings: Settings) -> list[str]:
        """The arguments for pytest."""
        paths = self.paths or (str(settings.path(settings.tests)),)
        options = [f"--windsock-state={settings.state_folder}"]
        if self.keyword:
            options += ["-k", self.keyword]
        if self.affected:
            options.append(f"--affected={self.affected}")
        if self.junit:
            options.append(f"--junit-xml={self.junit}")
        if self.parallel:
            options += ["-n", str(self.parallel), "--dist", "loadfile"]
        return [*options, *paths]


def test(work: Workspace, request: TestRequest) -> int:
    """Run the DAG tests, and with `watch` again on each save.

    Returns:
        pytest's exit code, but 0 when `affected` left no test to run.
    """
    environment = work.target().running()
    if environment is None:
        work.console.line("no environment is up: bringing it up first (it stays up)")
        environment = bring_up(work)
    code = _run_pytest(work, request)
    if not request.watch:
        return code
    try:
        for _ in _settled_saves(environment):
            code = _run_pytest(work, request)
            work.console.line("waiting for the next save; Ctrl-C to stop")
    except KeyboardInterrupt:
        return code
    return code


def _run_pytest(work: Workspace, request: TestRequest) -> int:
    command = [sys.executable, "-m", "pytest", *request.arguments(work.settings)]
    code = subprocess.call(command, cwd=work.settings.project)
    if code == PYTEST_NOTHING_RAN and request.affected:
        work.console.good(f"no test is affected by the changes since {request.affected}")
        return 0
    return code


def _settled_saves(environment: Environment) -> Iterator[str]:
    """The snapshot of each save, once Airflow has parsed it whole."""
    sent: set[str] = set()
    for event in ControlClient(environment.control_socket).attach():
        if event.get("type") == "sent":
            sent.add(event["snapshot"])
        elif event.get("type") == "settled" and event["snapshot"] in sent:
            sent.clear()
            yield event["snapshot"]


def ci(work: Workspace, *, junit: str) -> int:
    """Up, test, end; the end also when something fails."""
    try:
        return test(work, TestRequest(junit=junit))
    finally:
        work.target().end(work.console)
