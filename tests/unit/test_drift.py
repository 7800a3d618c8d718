"""The Tiltfile and okteto.yml say what windsock's own configuration and kube/ say."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import starlark
import yaml

from tests.unit.commands.test_commands import Recorder, run
from tests.unit.tilt import ROOT, Tilt
from windsock import config
from windsock.cluster import kubectl, okteto
from windsock.cluster.images import recipe
from windsock.cluster.manifests import render as manifests
from windsock.model import ENVIRONMENT_FILE
from windsock.targets.cluster.processes import API_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULTS = config.load({}, project=ROOT)
KIND = f"kind-{DEFAULTS.cluster.kind_name}"
AIRFLOW, POSTGRES = (
    name.partition(":")[0] for name in (manifests.AIRFLOW_IMAGE, manifests.POSTGRES_IMAGE)
)
MIGRATE = "windsock-migrate"
"""Tilt's own name of the image for the Job of the migration."""

MAKES_PODS = ("Deployment", "StatefulSet", "Job")
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kustomize is part of kubectl, which is not installed"
)

Manifest = dict[str, Any]

INSTALL = (ROOT / "docker/install.sh").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / recipe.DOCKERFILE).read_text(encoding="utf-8")


def invoke(command: list[str], variables: Mapping[str, str]) -> str:
    """What Tilt's local() does."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tilt(tmp_path_factory: pytest.TempPathFactory) -> Tilt:
    """`tilt up` on windsock's own kind cluster."""
    state = tmp_path_factory.mktemp("project") / "state"

    def local(command: list[str], variables: Mapping[str, str]) -> str:
        return invoke(command, {**variables, "INVOKE_WINDSOCK_STATE": str(state)})

    return Tilt(context=KIND, local=local).run()


@pytest.fixture
def objects(tilt: Tilt) -> list[Manifest]:
    """What Tilt applies."""
    [call] = tilt.calls["k8s_yaml"]
    return list(yaml.safe_load_all(call["yaml"]))


def containers(objects: list[Manifest]) -> Iterator[Manifest]:
    for item in objects:
        if item["kind"] in MAKES_PODS:
            yield from item["spec"]["template"]["spec"]["containers"]


def elsewhere(folder: Path, settings: Manifest, **changes: Any) -> Tilt:
    """The Tiltfile of a project with other settings; it renders one Job and nothing else."""
    shutil.copy(ROOT / "Tiltfile", folder)
    (folder / "invoke.yaml").write_text(yaml.safe_dump({"windsock": settings}))
    job = yaml.safe_dump({"kind": "Job", "metadata": {"name": "airflow-migrate"}})
    options: Any = {"context": KIND, "local": lambda *_: job, "folder": folder, **changes}
    return Tilt(**options)


# --- Tilt: where ----------------------------------------------------------------------------------


def test_tilt_may_deploy_where_windsock_may(tmp_path: Path) -> None:
    settings = {"cluster": {"allowed_contexts": ["lab", "bench"], "kind_name": "mine"}}
    tilt = elsewhere(tmp_path, settings, context="lab").run()
    assert tilt.calls["allow_k8s_contexts"] == [{"contexts": ["kind-mine", "lab", "bench"]}]
    assert tilt.named("local_resource", "sync")["serve_cmd"][-2:] == ["--context", "lab"]


def test_windsocks_own_kind_cluster_is_always_allowed_and_is_its_target(tmp_path: Path) -> None:
    tilt = elsewhere(tmp_path, {}).run()
    assert tilt.calls["allow_k8s_contexts"] == [{"contexts": [KIND]}]
    assert tilt.named("local_resource", "sync")["serve_cmd"][-2:] == ["--target", "kind"]


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, None),
        ({"dags": "d", "tests": "t", "state": "s", "env_file": "e"}, None),
        ({"state": "s"}, "elsewhere"),
        ({"state": "s"}, "/tmp/elsewhere"),
    ],
)
def test_folders_are_those_of_the_settings(
    tmp_path: Path, settings: Manifest, variable: str | None
) -> None:
    variables = {} if variable is None else {"INVOKE_WINDSOCK_STATE": variable}
    tilt = elsewhere(tmp_path, settings, variables=variables).run()
    wanted = config.load(
        {**settings, **({} if variable is None else {"state": variable})}, project=tmp_path
    )
    assert tilt.named("local_resource", "dag-tests")["deps"] == [wanted.dags, wanted.tests]
    assert tilt.named("local_resource", "secret")["deps"] == [wanted.env_file]
    assert {"file_path": wanted.env_file} in tilt.calls["watch_file"]
    probe = tilt.named("local_resource", "sync")["readiness_probe"]["exec"]["command"]
    assert Path(probe[-1]) == wanted.state_folder / ENVIRONMENT_FILE


def test_packages_elsewhere_are_refused_and_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(starlark.StarlarkError, match=r"must be in docker/requirements\.txt"):
        elsewhere(tmp_path, {"requirements": "requirements/dags.txt"}).run()


# --- Tilt: images ---------------------------------------------------------------------------------


@needs_kubectl
def test_tilt_builds_every_image_that_it_deploys(tilt: Tilt, objects: list[Manifest]) -> None:
    deployed = {container["image"].partition(":")[0] for container in containers(objects)}
    assert {call["ref"] for call in tilt.calls["docker_build"]} == deployed
    assert deployed == {AIRFLOW, POSTGRES, MIGRATE}


@needs_kubectl
def test_no_job_runs_an_image_that_is_updated_in_containers(
    tilt: Tilt, objects: list[Manifest]
) -> None:
    live = {call["ref"] for call in tilt.calls["docker_build"] if call["live_update"]}
    assert live == {AIRFLOW}
    jobs = [item for item in objects if item["kind"] == "Job"]
    assert jobs
    assert live.isdisjoint(item["image"].partition(":")[0] for item in containers(jobs))
    built, same = tilt.named("docker_build", AIRFLOW), tilt.named("docker_build", MIGRATE)
    assert (built["dockerfile"], built["target"]) == (same["dockerfile"], same["target"])
    copied = {name for name in same["only"] if name.endswith(".py")}
    [shared] = re.findall(r"^COPY (windsock/__init__\.py .+) \S+$", DOCKERFILE, re.MULTILINE)
    needed = {*shared.split(), "windsock/runtime/__init__.py", *_imported("migration")}
    assert copied >= needed


def _imported(module: str) -> set[str]:
    """The file of a module that runs in Airflow's venv, and the files of ours that it imports."""
    path = f"windsock/runtime/{module}.py"
    text = (ROOT / path).read_text(encoding="utf-8")
    others = re.findall(r"^from windsock\.runtime\.(\w+) import", text, re.MULTILINE)
    return {path}.union(*(_imported(each) for each in others))


@needs_kubectl
def test_tilt_down_keeps_the_volumes_that_the_database_refers_to(objects: list[Manifest]) -> None:
    kept = [item["metadata"] for item in objects if item["kind"] == "PersistentVolumeClaim"]
    assert {each["name"] for each in kept} == {"dags", "logs"}
    assert all(each["annotations"]["tilt.dev/down-policy"] == "keep" for each in kept)


def test_images_go_to_the_registry_of_the_settings_but_not_for_kind(tmp_path: Path) -> None:
    settings = {"cluster": {"allowed_contexts": ["lab"], "registry": "registry.example/anna"}}
    there = elsewhere(tmp_path, settings, context="lab").run()
    assert [call["host"] for call in there.calls["default_registry"]] == ["registry.example/anna"]
    assert "default_registry" not in elsewhere(tmp_path, settings).run().calls


@needs_kubectl
@pytest.mark.parametrize("target", recipe.OWN)
def test_a_build_sees_what_its_image_is_made_of(tilt: Tilt, target: str) -> None:
    call = tilt.named("docker_build", {"airflow": AIRFLOW, "postgres": POSTGRES}[target])
    assert (call["dockerfile"], call["target"]) == (recipe.DOCKERFILE, target)
    files = [*recipe.content(DEFAULTS, target), recipe.CERTIFICATES]
    if target == "airflow":
        files.append("docker/constraints.txt")  # `-c constraints.txt` of requirements.txt
    for name in files:
        assert any(Path(name).is_relative_to(seen) for seen in call["only"]), name
    for seen in call["only"]:
        assert (ROOT / seen).exists(), seen


@needs_kubectl
def test_what_is_copied_into_a_container_goes_where_the_image_has_it(tilt: Tilt) -> None:
    [code] = re.findall(r"PYTHONPATH=(\S+)", DOCKERFILE)
    entrypoint = tilt.named("docker_build", AIRFLOW)["entrypoint"]
    [live] = re.findall(rf"cp -R {code} (\S+)", entrypoint[2])
    copied = re.findall(rf"^COPY (windsock/.+) {code}(/\S+)/$", DOCKERFILE, re.MULTILINE)
    wanted = {}
    for sources, place in copied:
        for source in sources.split():
            name = Path(source).name
            wanted[source] = live + (place if place.endswith(f"/{name}") else f"{place}/{name}")
    assert f"export PYTHONPATH={live};" in entrypoint[2]
    assert {call["local_path"]: call["remote_path"] for call in tilt.calls["sync"]} == wanted
    [rebuild] = tilt.calls["fall_back_on"]
    only = tilt.named("docker_build", AIRFLOW)["only"]
    assert set(only) - set(wanted) == set(rebuild["paths"])
    for name in recipe.content(DEFAULTS, "airflow"):
        copy = any(Path(name).is_relative_to(path) for path in wanted)
        assert copy or any(Path(name).is_relative_to(path) for path in rebuild["paths"]), name


@needs_kubectl
def test_tasks_run_in_the_image_that_tilt_built(tilt: Tilt, objects: list[Manifest]) -> None:
    assert tilt.named("docker_build", AIRFLOW)["match_in_env_vars"] is True
    [scheduler] = [item for item in containers(objects) if item["name"] == "scheduler"]
    variables = {item["name"]: item.get("value") for item in scheduler["env"]}
    assert variables["WINDSOCK_WORKER_IMAGE"] == scheduler["image"]
    template = (ROOT / "kube/base/pod_template.yaml").read_text(encoding="utf-8")
    assert "image: ${WINDSOCK_WORKER_IMAGE}" in template


# --- Tilt: resources ------------------------------------------------------------------------------


@needs_kubectl
def test_every_object_is_part_of_a_labelled_resource(tilt: Tilt, objects: list[Manifest]) -> None:
    resources = tilt.calls["k8s_resource"]
    named = {call["workload"] for call in resources if call["workload"]}
    others = {name for call in resources for name in call["objects"]}
    for item in objects:
        name = item["metadata"]["name"]
        if item["kind"] in MAKES_PODS:
            assert name in named
        elif item["kind"] != "Service":  # Tilt puts it to the pods that it selects.
            assert f"{name}:{item['kind'].lower()}" in others
    labels = {
        label for call in [*resources, *tilt.calls["local_resource"]] for label in call["labels"]
    }
    assert labels == {"airflow", "database", "sync", "tests"}
    assert all(call["labels"] for call in [*resources, *tilt.calls["local_resource"]])


@needs_kubectl
def test_every_dependency_is_a_resource(tilt: Tilt) -> None:
    resources = [*tilt.calls["k8s_resource"], *tilt.calls["local_resource"]]
    known = {call.get("new_name") or call.get("workload") or call["name"] for call in resources}
    for call in resources:
        assert set(call["resource_deps"]) <= known


@needs_kubectl
def test_the_ports_are_windsocks(tilt: Tilt, objects: list[Manifest]) -> None:
    [forward] = tilt.named("k8s_resource", "airflow-api-server")["port_forwards"]
    [api] = [item for item in containers(objects) if item["name"] == "api-server"]
    assert forward["container_port"] == API_PORT == api["ports"][0]["containerPort"]
    assert forward["local_port"] == DEFAULTS.cluster.port
    assert forward["host"] == "127.0.0.1"
    environments = [call["serve_env"] or call["env"] for call in tilt.calls["local_resource"]]
    [own] = {item["INVOKE_WINDSOCK_CLUSTER_PORT"] for item in environments}
    assert int(own) != forward["local_port"], "Tilt and windsock forward a port each"
    [settings] = [item for item in objects if item["metadata"]["name"] == manifests.SETTINGS]
    assert settings["data"][manifests.UI_ONLY].startswith("http://127.0.0.1:")


def test_another_port_of_the_settings_is_tilts_and_windsocks_is_the_next(tmp_path: Path) -> None:
    tilt = elsewhere(tmp_path, {"cluster": {"port": 9090.0}}).run()  # a number of YAML, in Tilt
    [forward] = tilt.named("k8s_resource", "airflow-api-server")["port_forwards"]
    sync = tilt.named("local_resource", "sync")
    assert forward["local_port"] == 9090
    assert sync["serve_env"] == {"INVOKE_WINDSOCK_CLUSTER_PORT": "9091"}


@pytest.mark.parametrize(
    ("subcommand", "mode", "starts"),
    [("up", "TRIGGER_MODE_MANUAL", False), ("ci", "TRIGGER_MODE_AUTO", True)],
)
def test_the_dag_tests_are_a_button_and_part_of_ci(
    tmp_path: Path, subcommand: str, mode: str, starts: bool
) -> None:
    tests = (
        elsewhere(tmp_path, {}, subcommand=subcommand).run().named("local_resource", "dag-tests")
    )
    assert (tests["trigger_mode"], tests["auto_init"]) == (mode, starts)
    assert tests["allow_parallel"] is True


# --- Okteto ---------------------------------------------------------------------------------------


OKTETO: Manifest = yaml.safe_load((ROOT / "okteto.yml").read_text(encoding="utf-8"))
BASE: list[Manifest] = [
    item
    for path in (ROOT / "kube/base").glob("*.yaml")
    for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if "kind" in item  # a patch has none
]
EVERY_POD: Manifest = {
    each["path"]: each["value"]
    for each in yaml.safe_load((ROOT / "kube/base/every-pod.yaml").read_text(encoding="utf-8"))
}
SERVICES = {item["metadata"]["name"]: item for item in BASE if item["kind"] == "Service"}


def base(kind: str, name: str) -> Manifest:
    """An object of kube/base."""
    for item in BASE:
        if (item["kind"], item.get("metadata", {}).get("name")) == (kind, name):
            return dict(item)
    raise AssertionError(f"kube/base has no {kind} {name}")


def test_okteto_yml_is_what_oktetos_schema_allows() -> None:
    schema = json.loads((ROOT / "tests/data/okteto.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(OKTETO)


def test_okteto_builds_what_windsock_reads() -> None:
    for target, variable in okteto.IMAGES.items():
        assert OKTETO["build"][target]["target"] == target
        assert OKTETO["build"][target]["dockerfile"] == recipe.DOCKERFILE
        assert variable == f"OKTETO_BUILD_{target.upper()}_IMAGE"
        assert re.search(rf"^FROM \S+ AS {target}$", DOCKERFILE, re.MULTILINE)
    toolkit = OKTETO["build"]["toolkit"]["dockerfile"]
    assert (ROOT / toolkit).exists()
    for part in (OKTETO["deploy"], OKTETO["destroy"], *OKTETO["test"].values()):
        assert part["image"] == "${OKTETO_BUILD_TOOLKIT_IMAGE}"


def test_the_toolkit_has_the_python_of_airflow() -> None:
    toolkit = (ROOT / OKTETO["build"]["toolkit"]["dockerfile"]).read_text(encoding="utf-8")
    [python] = set(re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", toolkit + DOCKERFILE, re.MULTILINE))
    assert python
    [version] = re.findall(r"^ARG KUBECTL_IMAGE=\S+:v(\d+)\.(\d+)\.\d+$", toolkit, re.MULTILINE)
    assert tuple(int(part) for part in version) >= kubectl.OLDEST


def test_the_report_that_okteto_keeps_is_the_one_that_is_written() -> None:
    for part in OKTETO["test"].values():
        [command] = part["commands"]
        words = shlex.split(command["command"])
        assert part["artifacts"] == [words[words.index("--junit") + 1]]


def test_okteto_up_takes_the_place_of_a_workload_that_is_there() -> None:
    for name, part in OKTETO["dev"].items():
        assert base("Deployment", name)
        context = EVERY_POD["/spec/template/spec/securityContext"]
        assert part["securityContext"] == {key: context[key] for key in part["securityContext"]}
        assert [item.partition(":")[0] for item in part["sync"]] == [DEFAULTS.dags]
        for forward in part["forward"]:
            local, service, port = forward.split(":")
            assert int(local) != DEFAULTS.cluster.port, "`invoke up` on the same machine has it"
            assert int(port) == SERVICES[service]["spec"]["ports"][0]["port"]


def test_okteto_up_asks_nothing_and_its_shell_sees_the_folder_that_it_syncs() -> None:
    for part in OKTETO["dev"].values():
        [(local, remote)] = [item.split(":") for item in part["sync"]]
        assert (ROOT / local / ".stignore").exists(), "without it Okteto asks, and writes one"
        assert part["workdir"] == remote
        variables = part["environment"]
        [bundle] = json.loads(variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
        assert bundle["kwargs"] == {"path": remote}
        [made] = re.findall(r"^    mkdir -p (.+)$", INSTALL, re.MULTILINE)
        assert remote in made.split(), "no volume is there: the folder is the image's"
        assert part["persistentVolume"] == {"enabled": False}


def test_a_shell_of_okteto_up_has_a_database_of_its_own() -> None:
    for name, part in OKTETO["dev"].items():
        [container] = base("Deployment", name)["spec"]["template"]["spec"]["containers"]
        connections = [
            item["name"] for item in container["env"] if "SQL_ALCHEMY_CONN" in item["name"]
        ]
        assert connections
        for connection in connections:
            assert part["environment"][connection].startswith("sqlite")
        assert "airflow db migrate" in part["command"][-1]


def test_what_okteto_leaves_behind_is_nothing_that_its_commands_need() -> None:
    patterns = (ROOT / ".oktetoignore").read_text(encoding="utf-8").splitlines()
    for needed in (
        "tasks.py",
        "dev",
        "invoke.yaml",
        "kube",
        "docker",
        "windsock",
        DEFAULTS.state[1:],
    ):
        assert needed not in patterns
    assert "!tests/dags" in patterns
    assert f"{DEFAULTS.state}*" in patterns, "secrets of this machine stay on it"


def test_the_page_lists_what_a_namespace_must_have() -> None:
    page = (ROOT / "docs/okteto.md").read_text(encoding="utf-8")
    components = [
        base("StatefulSet", "postgres"),
        *(
            base("Deployment", f"airflow-{name}")
            for name in ("api-server", "scheduler", "dag-processor", "triggerer")
        ),
    ]
    assert f"| Airflow and its database | {_needs(*components)} |" in page
    assert (
        f"| the migration, once for each image | {_needs(base('Job', 'airflow-migrate'))} |" in page
    )
    worker = yaml.safe_load((ROOT / "kube/base/pod_template.yaml").read_text(encoding="utf-8"))
    assert f"| each task, while it runs | {_needs({'spec': {'template': worker}})} |" in page
    server = base("Deployment", "airflow-api-server")
    assert server["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert f"| a second API server, while it is replaced | {_needs(server)} |" in page
    sizes = [_gibibytes(claim) for claim in _claims()]
    assert f"| volumes | {sum(sizes)}Gi in {len(sizes)} claims | |" in page


def test_only_the_api_server_runs_twice_while_it_is_replaced() -> None:
    replaced = {
        item["metadata"]["name"]: item["spec"]["strategy"]["type"]
        for item in BASE
        if item["kind"] == "Deployment"
    }
    assert {name for name, how in replaced.items() if how != "Recreate"} == {"airflow-api-server"}


def _claims() -> list[Manifest]:
    """Every claim that the objects of kube/base make."""
    made = [item for item in BASE if item["kind"] == "PersistentVolumeClaim"]
    for item in BASE:
        made += item.get("spec", {}).get("volumeClaimTemplates", [])
    return made


def _gibibytes(claim: Manifest) -> int:
    return int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))


def _needs(*workloads: Manifest) -> str:
    """The sums of what these ask for, as a row of the page."""
    found = [
        container["resources"]
        for item in workloads
        for container in item["spec"]["template"]["spec"]["containers"]
    ]
    cpu = sum(int(each["requests"]["cpu"].removesuffix("m")) for each in found)
    memory = sum(int(each["requests"]["memory"].removesuffix("Mi")) for each in found)
    most = sum(int(each["limits"]["memory"].removesuffix("Gi")) for each in found)
    return f"{cpu}m CPU, {memory}Mi memory | {most}Gi memory"


# --- commands and tools ---------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Every command line of ours in okteto.yml and in the Tiltfile."""
    sections = [OKTETO["deploy"], OKTETO["destroy"], *OKTETO["test"].values()]
    found = [shlex.split(item["command"]) for part in sections for item in part["commands"]]
    text = (ROOT / "Tiltfile").read_text(encoding="utf-8")
    flags = ["--target", "kind"]
    for words, rest in re.findall(r"\binvoke \+ \[([^]]+)\]( \+ flags)?", text):
        found.append(["invoke", *re.findall(r"'([^']*)'", words), *(flags if rest else [])])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    recorder = Recorder(monkeypatch)
    assert words[0] == "invoke"
    assert run(*words[1:]) == 0
    assert len(recorder.calls) == 1
    assert recorder.settings[0].target in {"auto", "kind", "okteto"}


@pytest.mark.skipif(shutil.which("okteto") is None, reason="okteto is not installed")
def test_okteto_itself_takes_the_manifest(tmp_path: Path) -> None:
    # With this file okteto does not report its use to its makers.
    (tmp_path / "analytics.json").write_text('{"enabled": false, "machineID": "none"}')
    done = subprocess.run(
        ["okteto", "validate", "--file", "okteto.yml"],  # noqa: S607 - the developer's own
        cwd=ROOT,
        env={**os.environ, "OKTETO_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
