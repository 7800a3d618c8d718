"""The commands of windsock, for Invoke: `invoke --list` names them, `invoke --help up` teaches one.

Each task reads its arguments and calls one flow. What a flow needs is imported when the task runs,
so that listing the tasks stays quick. Exit codes are told in windsock/errors.py.
"""

from __future__ import annotations

import functools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Collection, Context, Exit, task
from invoke.util import yaml

from windsock import config
from windsock.arguments import LenientTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.flow import Workspace

PROJECT = Path(__file__).resolve().parent

INTERRUPTED = 130

AS_FOR_UP = dict.fromkeys(("target", "context", "namespace"), "As for `invoke up`.")
"""Help of the flags that choose a cluster."""

TAKE_OVER = "Also if somebody else syncs to the namespace: they are told."
"""Help of `--take-over` where nobody stays to sync."""


def check_invoke_yaml(path: Path) -> None:
    """Say what is wrong with invoke.yaml, before Invoke reads it and shows a traceback.

    Raises:
        Exit: It is no YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)  # type: ignore[no-untyped-call] # Invoke's own copy
    except FileNotFoundError:
        return
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Exit(f"✗ {path} cannot be read: {error}", code=2) from None
    if values is not None and not isinstance(values, dict):
        raise Exit(f"✗ {path} must be a mapping, like `windsock: {{dags: dags}}`", code=2)


check_invoke_yaml(PROJECT / "invoke.yaml")


def reports_errors(body: Callable[..., int | None]) -> Callable[..., None]:
    """Show an expected error as a person wants it, and end with its exit code."""

    @functools.wraps(body)
    def command(*arguments: Any, **options: Any) -> None:
        from windsock.console import Console  # noqa: PLC0415 - quick listing
        from windsock.errors import WindsockError  # noqa: PLC0415 - quick listing

        # A terminal that is closed, or a job that is cancelled, is an interrupt as well.
        for name in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(name) is not signal.SIG_IGN:  # `nohup` means what it says.
                signal.signal(name, signal.default_int_handler)
        try:
            code = body(*arguments, **options)
        except WindsockError as error:
            Console().error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            Console().line("interrupted")
            code = INTERRUPTED
        except BrokenPipeError:  # The reader of our output, say `head`, has gone: no failure.
            sys.stderr.close()
            code = 0
        if code:
            raise Exit(code=code)

    return command


def workspace(
    context: Context,
    *,
    kube_context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
    take_over: bool = False,
    **overrides: str,
) -> Workspace:
    """The settings of this project with the flags of a command laid over them."""
    from windsock.console import Console  # noqa: PLC0415 - quick listing
    from windsock.flow import Workspace  # noqa: PLC0415 - quick listing

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
    return Workspace(settings=config.load(values, project=PROJECT), console=Console())


@task(
    help={
        "target": "Where: local, kind, okteto, or auto (the default), which explains its choice.",
        "context": "Run on the cluster of this kube context; invoke.yaml must allow it.",
        "namespace": "Of the cluster.",
        "skip-unserved": "Go on without objects whose kind the cluster does not serve.",
        "take-over": "Take the sync over from somebody else who syncs to the namespace.",
        "detach": "Leave everything running, saves included, and return.",
        "dags": "The DAG folder, here or in another repository.",
        "rebuild": "When requirements change meanwhile: auto, ask (the default) or never.",
    }
)
@reports_errors
def up(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
    detach: bool = False,
    dags: str = "",
    take_over: bool = False,
    rebuild: str = "",
) -> int | None:
    """Bring up Airflow, watch the DAG folder, and tell what came of each save.

    Ctrl-C stops what this command started. Run it again and it attaches to what is already up.
    """
    from windsock import flow  # noqa: PLC0415 - quick listing

    work = workspace(
        c,
        kube_context=context,
        namespace=namespace,
        skip_unserved=skip_unserved,
        take_over=take_over,
        target=target,
        dags=dags,
        rebuild=rebuild,
    )
    return flow.up(work, detach=detach)


@task(
    help={
        "volumes": "Also remove the database, the logs and all other state.",
        "cluster": "Also delete the kind cluster, if windsock made it and nobody else uses it.",
        "take-over": TAKE_OVER,
    }
)
@reports_errors
def down(
    context: Context, volumes: bool = False, cluster: bool = False, take_over: bool = False
) -> None:
    """Stop the environment."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    work = workspace(context, take_over=take_over)
    flow.down(work, volumes=volumes, cluster=cluster)


@task
@reports_errors
def build(context: Context) -> None:
    """Build the images that run in a cluster; nothing happens if they are current."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.build(workspace(context))


@task(help=dict(AS_FOR_UP))  # Invoke empties it when it has read it.
@reports_errors
def render(c: Context, target: str = "", context: str = "", namespace: str = "") -> None:
    """Print the manifests exactly as `invoke up` would apply them, without the Secret."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.render(workspace(c, kube_context=context, namespace=namespace, target=target))


@task(
    help={
        **AS_FOR_UP,
        "skip-unserved": "Leave out objects whose kind the cluster does not serve.",
    }
)
@reports_errors
def diff(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    skip_unserved: bool = False,
) -> int:
    """Show what `invoke up` would change in the cluster; exit code 1 if anything."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    work = workspace(
        c,
        kube_context=context,
        namespace=namespace,
        skip_unserved=skip_unserved,
        target=target,
    )
    return flow.diff(work)


@task(help={**AS_FOR_UP, "take-over": TAKE_OVER})
@reports_errors
def deploy(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    take_over: bool = False,
) -> None:
    """Bring Airflow up in its cluster with the DAGs parsed, and leave nothing running here."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    work = workspace(
        c, kube_context=context, namespace=namespace, target=target, take_over=take_over
    )
    flow.deploy(work)


@task(help={"json": "For scripts: one JSON document on stdout."})
@reports_errors
def status(context: Context, json: bool = False) -> int:
    """Show the state of each component, of the sync and of the DAGs."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    return flow.status(workspace(context), as_json=json)


@task(
    klass=LenientTask,
    positional=["component"],
    help={
        "component": "One of those that `invoke status` names; all when left out.",
        "follow": "Go on with new lines as they come.",
        "lines": "How many of the last lines to begin with.",
    },
)
@reports_errors
def logs(context: Context, component: str = "", follow: bool = False, lines: int = 40) -> None:
    """Show what the components log."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.logs(workspace(context), component=component, follow=follow, lines=lines)


@task(
    klass=LenientTask,
    positional=["component"],
    help={"component": "One of those that `invoke status` names; all when left out."},
)
@reports_errors
def restart(context: Context, component: str = "") -> None:
    """Restart one component, or all of them."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.restart(workspace(context), component=component)


@task(
    name="sync",
    help={
        **dict.fromkeys(
            AS_FOR_UP, "Sync into what others, say Tilt, deployed there; no `up` needed."
        ),
        "allow-empty": "Say that an emptied DAG folder is meant: sync its deletion.",
        "take-over": "Take the sync over from somebody else who syncs to the same namespace.",
    },
)
@reports_errors
def sync_(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    allow_empty: bool = False,
    take_over: bool = False,
) -> int | None:
    """Attach to the sync of a running environment: a line for each save."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    work = workspace(
        c, kube_context=context, namespace=namespace, target=target, take_over=take_over
    )
    if target or context:
        return flow.join(work)
    return flow.attach(work, allow_empty=allow_empty, take_over=take_over)


@task(help=dict(AS_FOR_UP))  # Invoke empties it when it has read it.
@reports_errors
def secret(c: Context, target: str = "", context: str = "", namespace: str = "") -> None:
    """Make the namespace and its Secret, if there are none: for what others deploy."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.secret(workspace(c, kube_context=context, namespace=namespace, target=target))


@task(
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
@reports_errors
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
    from windsock import flow  # noqa: PLC0415 - quick listing

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


@task(help={"junit": "Where to write the JUnit report.", "take-over": TAKE_OVER})
@reports_errors
def ci(context: Context, junit: str = "junit.xml", take_over: bool = False) -> int:
    """Bring the environment up, run the DAG tests, take it down: one exit code, one JUnit file."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    return flow.ci(workspace(context, take_over=take_over), junit=junit)


@task(help={"json": "For scripts: one JSON document on stdout."})
@reports_errors
def dags_list(context: Context, json: bool = False) -> None:
    """List the DAGs that Airflow knows."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.dags_list(workspace(context), as_json=json)


@task(
    positional=["dag_id"],
    help={
        "dag-id": "The DAG to run.",
        "conf": "The run's configuration, as a JSON object.",
        "wait": "Wait until the run has ended; the exit code says whether it succeeded.",
        "timeout": "Seconds to wait at most.",
        "json": "For scripts: one JSON document on stdout.",
    },
)
@reports_errors
def dags_trigger(
    context: Context,
    dag_id: str,
    conf: str = "",
    wait: bool = False,
    timeout: float = 300.0,
    json: bool = False,
) -> int:
    """Run a DAG, on exactly the files that are on disk now."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    return flow.dags_trigger(
        workspace(context), dag_id=dag_id, conf=conf, wait=wait, timeout=timeout, as_json=json
    )


@task(help={"json": "For scripts: one JSON document on stdout."})
@reports_errors
def dags_errors(context: Context, json: bool = False) -> int:
    """Show every DAG file that does not import, with its traceback."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    return flow.dags_errors(workspace(context), as_json=json)


@task(help={"json": "For scripts: one JSON document on stdout.", "dags": "The DAG folder."})
@reports_errors
def dags_check(context: Context, json: bool = False, dags: str = "") -> int:
    """Import every DAG without a running Airflow: the quick check before a commit."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    return flow.dags_check(workspace(context, dags=dags), as_json=json)


@task(help={"output": "The file to write; stdout when left out."})
@reports_errors
def settings_export(context: Context, output: str = "") -> None:
    """Write Airflow's connections, variables and pools as airflow_settings.yaml."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.settings_export(workspace(context), output=output)


@task
@reports_errors
def shell(context: Context) -> int:
    """Open a shell in Airflow's environment; `invoke shell -- airflow info` runs one command."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    # Invoke joins what follows `--` by blanks; a quoted word must stay one word.
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    return flow.shell(workspace(context), command=command)


@task(name="open")
@reports_errors
def open_(context: Context) -> None:
    """Open Airflow's UI in the browser."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.open_ui(workspace(context))


@task(help={"json": "For scripts: one JSON document on stdout."})
@reports_errors
def doctor(context: Context, json: bool = False) -> int:
    """Check this machine and this project, and say what to do about each finding."""
    from windsock import doctor as doctor_  # noqa: PLC0415 - quick listing

    return doctor_.run(workspace(context), as_json=json)


@task(help={"json": "For scripts: one JSON document on stdout."})
@reports_errors
def version(context: Context, json: bool = False) -> None:
    """Show the versions of windsock, Python and Airflow."""
    from windsock import flow  # noqa: PLC0415 - quick listing

    flow.version(workspace(context), as_json=json)


@task
@reports_errors
def cluster_debian_up(context: Context) -> None:
    """Bring up a test bed: Kubernetes built from Debian's packages, for lack of a registry."""
    console = workspace(context).console
    from tests.cluster.debian import cluster  # noqa: PLC0415 - quick listing

    kubeconfig = cluster.up(console.line)
    console.good(f"export KUBECONFIG={kubeconfig}, then `invoke up --context debian`")


@task
@reports_errors
def cluster_debian_down(context: Context) -> None:
    """Stop the test bed."""
    console = workspace(context).console
    from tests.cluster.debian import cluster  # noqa: PLC0415 - quick listing

    cluster.down(console.line)


@task(
    help={
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each event of ours is measured.",
        "peers": "Also measure stock and tuned Airflow in the same run.",
    }
)
@reports_errors
def bench_reload(context: Context, json: bool = False, rounds: int = 20, peers: bool = True) -> int:
    """Measure from save to parsed, and from trigger to success, beside stock and tuned Airflow."""
    from benchmarks import reload as bench  # noqa: PLC0415 - quick listing

    return bench.run(workspace(context), as_json=json, rounds=rounds, peers=peers)


@task(
    help={
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each kind of start is measured.",
    }
)
@reports_errors
def bench_up(context: Context, json: bool = False, rounds: int = 3) -> int:
    """Measure bringing the environment up: first, warm, and when it is already up."""
    from benchmarks import up as bench  # noqa: PLC0415 - quick listing

    return bench.run(workspace(context), as_json=json, rounds=rounds)


@task(
    help={
        "context": AS_FOR_UP["context"],
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often a run of one task is measured.",
        "peer": "Also measure a plain Airflow on the same cluster (about 4 minutes).",
    }
)
@reports_errors
def bench_kube(
    c: Context,
    context: str = "",
    json: bool = False,
    rounds: int = 15,
    peer: bool = True,
) -> int:
    """Measure `up` on a cluster and a task in a pod, beside a plain Airflow on Kubernetes.

    In namespaces of its own, which it removes.
    """
    from benchmarks import kube as bench  # noqa: PLC0415 - quick listing

    work = workspace(c, kube_context=context)
    return bench.run(work, as_json=json, rounds=rounds, peer=peer)


@task(
    help={
        **AS_FOR_UP,
        "json": "For scripts: one JSON document on stdout.",
        "rounds": "How often each event is measured.",
    }
)
@reports_errors
def bench_sync(
    c: Context,
    target: str = "",
    context: str = "",
    namespace: str = "",
    json: bool = False,
    rounds: int = 20,
) -> int:
    """Measure from save to a pod of a cluster, beside kubectl; in a namespace of its own."""
    from benchmarks import sync as bench  # noqa: PLC0415 - quick listing

    work = workspace(c, kube_context=context, namespace=namespace, target=target)
    return bench.run(work, as_json=json, rounds=rounds)


namespace = Collection(
    *(up, down, status, logs, restart, sync_, test, ci, shell, open_, doctor, version),
    *(build, render, diff, deploy, secret),
)
for group, names in {
    "dags": {
        "list": dags_list,
        "trigger": dags_trigger,
        "errors": dags_errors,
        "check": dags_check,
    },
    "settings": {"export": settings_export},
    "cluster": {"debian-up": cluster_debian_up, "debian-down": cluster_debian_down},
    "bench": {
        "kube": bench_kube,
        "reload": bench_reload,
        "sync": bench_sync,
        "up": bench_up,
    },
}.items():
    collection = Collection(group)
    for name, item in names.items():
        collection.add_task(item, name=name)
    namespace.add_collection(collection)
namespace.configure({"windsock": config.defaults()})
