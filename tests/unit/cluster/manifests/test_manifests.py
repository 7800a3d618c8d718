from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.unit.cluster.kubectl import put_kubectl
from windsock.cluster.manifests import render as manifests
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[4]
BASE = ROOT / "kube" / "base"
AIRFLOW, POSTGRES = "windsock-airflow:1111", "windsock-postgres:2222"
IMAGES = {manifests.AIRFLOW_IMAGE: AIRFLOW, manifests.POSTGRES_IMAGE: POSTGRES}
SETTINGS = {"AIRFLOW__CORE__PARALLELISM": "8", manifests.UI_ONLY: "http://127.0.0.1:1"}
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kustomize is part of kubectl, which is not installed"
)

Manifest = dict[str, Any]
Objects = dict[tuple[str, str], Manifest]


def base() -> list[Manifest]:
    """The objects of the files of kube/base."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    return [
        item
        for name in kustomization["resources"]
        for item in yaml.safe_load_all((BASE / name).read_text())
    ]


def rendered(project: Path = ROOT, **changes: Any) -> Objects:
    """The objects of an environment; the pod template is known without its digest."""
    arguments: dict[str, Any] = {
        "overlay": "context",
        "namespace": "anna",
        "images": IMAGES,
        "settings": SETTINGS,
        **changes,
    }
    return {
        (
            item["kind"],
            re.sub(r"^(airflow-pod-template)-\w+$", r"\1", item["metadata"]["name"]),
        ): item
        for item in manifests.objects(project, **arguments)
    }


@pytest.fixture(scope="module")
def objects() -> Objects:
    return rendered()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose kube/ may be changed."""
    shutil.copytree(ROOT / "kube", tmp_path / "kube")
    return tmp_path


def overlay(project: Path, name: str, **kustomization: Any) -> None:
    folder = project / "kube" / "overlays" / name
    folder.mkdir(exist_ok=True)
    text = yaml.safe_dump({"resources": ["../../base"], **kustomization})
    (folder / "kustomization.yaml").write_text(text)


def worker(objects: Objects) -> Manifest:
    """The pod of a task, as the scheduler's bootstrap.sh writes it."""
    [scheduler] = pod_of(objects, "airflow-scheduler")["spec"]["containers"]
    variables = {each["name"]: each.get("value", "") for each in scheduler["env"]}
    variables |= objects["ConfigMap", manifests.SETTINGS]["data"]
    text = objects["ConfigMap", manifests.POD_TEMPLATE]["data"][manifests.POD_TEMPLATE_KEY]
    pod: Manifest = yaml.safe_load(Template(text).safe_substitute(variables))
    return pod


def pod_of(objects: Objects, deployment: str) -> Manifest:
    pod: Manifest = objects["Deployment", deployment]["spec"]["template"]
    return pod


def pods(objects: Objects) -> Iterator[tuple[str, Manifest]]:
    yield "worker", worker(objects)
    for (kind, name), item in objects.items():
        if kind in ("Deployment", "StatefulSet", "Job"):
            yield name, item["spec"]["template"]


def checksums(objects: Objects) -> dict[str, str]:
    return {
        name: pod["metadata"]["annotations"][manifests.CHECKSUM]
        for name, pod in pods(objects)
        if manifests.CHECKSUM in pod["metadata"].get("annotations", {})
    }


def rolled(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name, digest in after.items() if before.get(name) != digest}


# --- what an environment puts into kube/ ----------------------------------------------------------


@needs_kubectl
def test_everything_goes_to_the_namespace_that_was_asked_for(objects: Objects) -> None:
    assert {item["metadata"]["namespace"] for item in objects.values()} == {"anna"}
    (subject,) = objects["RoleBinding", "airflow-scheduler"]["subjects"]
    assert subject["namespace"] == "anna"


@needs_kubectl
@pytest.mark.parametrize(
    "image",
    [AIRFLOW, "registry.example:5000/anna/windsock-airflow:1", "host/a/b:okteto@sha256:0123"],
)
def test_every_container_runs_the_images_of_the_environment(image: str) -> None:
    found = {
        name: container["image"]
        for name, pod in pods(rendered(images=IMAGES | {manifests.AIRFLOW_IMAGE: image}))
        for container in pod["spec"]["containers"]
    }
    assert found.pop("postgres") == POSTGRES
    assert set(found.values()) == {image}
    assert found["worker"] == image


@needs_kubectl
def test_the_settings_of_the_environment_go_over_those_of_kube(objects: Objects) -> None:
    (container,) = pod_of(objects, "airflow-dag-processor")["spec"]["containers"]
    assert {"configMapRef": {"name": manifests.SETTINGS}} in container["envFrom"]
    data = objects["ConfigMap", manifests.SETTINGS]["data"]
    assert SETTINGS.items() <= data.items()
    assert data["AIRFLOW__CORE__EXECUTOR"] == "KubernetesExecutor"


@needs_kubectl
def test_a_setting_may_be_any_text() -> None:
    settings = {"ONE": "two\nlines: 'and' \"quotes\"", "TWO": "8", "THREE": "", "FOUR": "$HOME=1"}
    data = rendered(settings=settings)["ConfigMap", manifests.SETTINGS]["data"]
    assert settings.items() <= data.items()


@needs_kubectl
def test_the_same_input_gives_the_same_objects(objects: Objects) -> None:
    assert rendered() == objects


# --- what rolls what ------------------------------------------------------------------------------


@needs_kubectl
def test_a_changed_setting_rolls_all_of_airflow_and_not_the_database(objects: Objects) -> None:
    after = checksums(rendered(settings={**SETTINGS, "AIRFLOW__CORE__PARALLELISM": "9"}))
    components = {f"airflow-{name}" for name in ("scheduler", "dag-processor", "triggerer")}
    assert components | {"airflow-api-server"} <= rolled(checksums(objects), after)
    assert "postgres" not in after


@needs_kubectl
def test_another_port_on_this_machine_rolls_the_api_server_alone(objects: Objects) -> None:
    after = checksums(rendered(settings={**SETTINGS, manifests.UI_ONLY: "http://127.0.0.1:2"}))
    assert rolled(checksums(objects), after) == {"airflow-api-server"}


@needs_kubectl
def test_a_changed_pod_template_rolls_the_scheduler_alone(objects: Objects, project: Path) -> None:
    with (project / "kube/base" / manifests.POD_TEMPLATE_KEY).open("a") as file:
        file.write("  priority: 7\n")
    changed = rendered(project)
    assert rolled(checksums(objects), checksums(changed)) == {"airflow-scheduler"}
    mounted = yaml.safe_dump(pod_of(changed, "airflow-scheduler"))
    name = changed["ConfigMap", manifests.POD_TEMPLATE]["metadata"]["name"]
    assert name not in yaml.safe_dump(pod_of(objects, "airflow-scheduler"))
    assert name in mounted


# --- kube/ itself ---------------------------------------------------------------------------------


@needs_kubectl
def test_pods_keep_to_the_restricted_profile(objects: Objects) -> None:
    for name, pod in pods(objects):
        context = pod["spec"]["securityContext"]
        assert context == worker(objects)["spec"]["securityContext"], name
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 50000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["spec"]["enableServiceLinks"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["imagePullPolicy"] == "IfNotPresent"


@needs_kubectl
def test_the_variables_are_known_that_manifests_set_over_those_of_the_project(
    objects: Objects,
) -> None:
    found = manifests.variables_of(list(objects.values()))
    assert found >= {"AIRFLOW_CONN_WAREHOUSE", "AIRFLOW__CORE__FERNET_KEY"}
    assert found >= {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__API_AUTH__JWT_SECRET"}
    assert not [name for name in found if name.startswith("POSTGRES_")]


@needs_kubectl
def test_only_the_scheduler_has_a_token(objects: Objects) -> None:
    with_token = {
        name for name, pod in pods(objects) if pod["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"airflow-scheduler"}


@needs_kubectl
def test_workers_get_no_secret_of_airflow_and_cannot_write_snapshots(objects: Objects) -> None:
    pod = worker(objects)
    assert pod["spec"].pop("imagePullSecrets") == []
    own = {"secretRef": {"name": "airflow-variables", "optional": True}}
    pod["spec"]["containers"][0]["envFrom"].remove(own)
    assert "secret" not in yaml.safe_dump(pod).lower()
    (mount,) = [
        mount for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "dags"
    ]
    assert mount["readOnly"] is True
    assert pod["spec"]["containers"][0]["name"] == "base", "the executor looks for this name"


@needs_kubectl
def test_only_the_dag_processor_may_write_snapshots(objects: Objects) -> None:
    writers = {
        name
        for name, pod in pods(objects)
        for container in pod["spec"]["containers"]
        for mount in container.get("volumeMounts", [])
        if mount["name"] == "dags" and not mount.get("readOnly")
    }
    assert writers == {"airflow-dag-processor"}


@needs_kubectl
def test_the_pods_fit_on_a_small_node(objects: Objects) -> None:
    def number(quantity: str) -> int:
        return int(quantity.rstrip("mMi"))

    wanted = [
        container["resources"]["requests"]
        for name, pod in pods(objects)
        for container in pod["spec"]["containers"]
    ]
    assert sum(number(request["cpu"]) for request in wanted) <= 500, "millicores, of 2000"
    assert sum(number(request["memory"]) for request in wanted) <= 2048, "MiB"


@needs_kubectl
@pytest.mark.parametrize(("overlay", "bound"), [("context", True), ("kind", False)])
def test_a_task_runs_where_the_rest_of_airflow_does(overlay: str, bound: bool) -> None:
    found = rendered(overlay=overlay)
    scheduler = pod_of(found, "airflow-scheduler")["spec"].get("affinity", {})
    assert worker(found)["spec"]["affinity"] == scheduler
    assert bool(scheduler) is bound


# --- rendering ------------------------------------------------------------------------------------


@needs_kubectl
@pytest.mark.parametrize("overlay", ["kind", "context", "ha", "okteto"])
def test_an_overlay_renders_and_every_object_is_labelled(overlay: str) -> None:
    found = manifests.render(ROOT, overlay)
    kinds = {item["kind"] for item in found}
    assert {"StatefulSet", "Deployment", "Job", "ConfigMap", "NetworkPolicy"} <= kinds
    assert "Secret" not in kinds
    for item in found:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "windsock"
        assert labels["app.kubernetes.io/managed-by"] == "windsock"


NAMESPACED = {
    *(("v1", kind) for kind in ("ConfigMap", "PersistentVolumeClaim", "Service", "ServiceAccount")),
    *(("apps/v1", kind) for kind in ("Deployment", "StatefulSet")),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    *(("rbac.authorization.k8s.io/v1", kind) for kind in ("Role", "RoleBinding")),
}
"""What an account of one namespace may make."""


@needs_kubectl
def test_nothing_for_okteto_is_what_its_namespaces_forbid() -> None:
    objects = rendered(overlay="okteto")
    claims = [item for item in objects.values() if item["kind"] == "PersistentVolumeClaim"]
    for item in objects.values():
        assert (item["apiVersion"], item["kind"]) in NAMESPACED
        if item["kind"] == "Service":
            assert item["spec"].get("type", "ClusterIP") == "ClusterIP"
            assert not item["spec"].get("externalIPs")
        claims += item.get("spec", {}).get("volumeClaimTemplates", [])
    assert [claim["spec"]["accessModes"] for claim in claims] == [["ReadWriteOnce"]] * 3


@needs_kubectl
def test_no_pod_for_okteto_reaches_for_its_node() -> None:
    found = dict(pods(rendered(overlay="okteto")))
    assert "worker" in found
    for pod in found.values():
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName", "nodeSelector"} & spec.keys()
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert not [port for port in container.get("ports", []) if "hostPort" in port]
            context = container["securityContext"]
            assert not context.get("privileged")
            assert context.get("runAsUser") != 0
            assert "add" not in context["capabilities"]


@needs_kubectl
def test_a_storage_class_for_many_nodes_frees_the_pods(project: Path) -> None:
    overlay(project, "many", components=["../../components/read-write-many"])
    found = rendered(project, overlay="many")
    claims = [item for item in found.values() if item["kind"] == "PersistentVolumeClaim"]
    assert [item["spec"]["accessModes"] for item in claims] == [["ReadWriteMany"]] * 2
    assert [name for name, pod in pods(found) if pod["spec"].get("affinity")] == []


@needs_kubectl
@pytest.mark.parametrize("many_nodes", [False, True])
def test_two_dag_processors_run_where_their_volume_can_be_mounted(
    project: Path, many_nodes: bool
) -> None:
    components = ["../../components/ha", *["../../components/read-write-many"] * many_nodes]
    overlay(project, "ha", components=components)
    processor = rendered(project, overlay="ha")["Deployment", "airflow-dag-processor"]
    assert processor["spec"]["replicas"] == 2
    assert processor["spec"]["strategy"]["type"] == "RollingUpdate"
    affinity = processor["spec"]["template"]["spec"].get("affinity")
    if many_nodes:
        assert affinity is None
    else:
        [required] = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["labelSelector"]["matchLabels"] == {
            "app.kubernetes.io/component": "dag-processor"
        }


@needs_kubectl
def test_an_overlay_that_drops_the_settings_is_refused(project: Path) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "airflow-settings"}}
    patch = yaml.safe_dump({**body, "$patch": "delete"})
    overlay(project, "context", patches=[{"patch": patch}])
    with pytest.raises(ConfigurationError, match="no ConfigMap airflow-settings"):
        rendered(project)


def test_an_unknown_overlay_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="there is no overlay") as caught:
        manifests.render(ROOT, "nowhere")
    assert "context" in caught.value.hint


def test_without_kubectl_the_hint_names_the_version_to_get(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="kubectl is not installed") as caught:
        manifests.render(ROOT, "context")
    assert "1.27" in caught.value.hint


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    return partial(put_kubectl, tmp_path)


def test_what_kustomize_complains_about_is_passed_on(kubectl: Callable[..., None]) -> None:
    kubectl(complaint="invalid Kustomization: yaml: line 7")
    with pytest.raises(ConfigurationError, match="cannot render") as caught:
        manifests.render(ROOT, "context")
    assert "yaml: line 7" in caught.value.hint


def test_a_kubectl_that_is_too_old_is_named(kubectl: Callable[..., None]) -> None:
    kubectl(minor="20+", complaint="unknown field includeTemplates")
    with pytest.raises(ConfigurationError, match=r"kubectl 1\.20 is too old"):
        manifests.render(ROOT, "context")


def test_empty_documents_are_no_objects(kubectl: Callable[..., None]) -> None:
    kubectl(output="---\n---\n{kind: ConfigMap, metadata: {name: one}}\n")
    assert manifests.render(ROOT, "context") == [{"kind": "ConfigMap", "metadata": {"name": "one"}}]


@needs_kubectl
def test_objects_of_the_users_own_overlay_are_kept_as_they_are(project: Path) -> None:
    overlay(
        project,
        "context",
        configMapGenerator=[{"name": "mine", "literals": ["key=windsock-airflow:dev"]}],
        generatorOptions={"disableNameSuffixHash": True},
    )
    assert rendered(project)["ConfigMap", "mine"]["data"] == {"key": "windsock-airflow:dev"}


def test_the_role_of_a_person_covers_what_kube_is_made_of_and_the_scheduler_may() -> None:
    role = yaml.safe_load((ROOT / "kube" / "account.yaml").read_text())
    may = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for item in base():
        group = item["apiVersion"].rpartition("/")[0]
        plural = re.sub(r"ys$", "ies", f"{item['kind'].lower()}s")
        assert may[group, plural] >= {"get", "list", "create", "patch", "delete"}, plural
    # Kubernetes lets nobody give rights that they do not have.
    given = [rule for item in base() if item["kind"] == "Role" for rule in item["rules"]]
    assert given
    for rule in given:
        for resource in rule["resources"]:
            assert may[rule["apiGroups"][0], resource] >= set(rule["verbs"])


@needs_kubectl
@pytest.mark.parametrize(("secret", "named"), [("ghcr", [{"name": "ghcr"}]), ("", [])])
def test_every_pod_pulls_with_the_secret_that_the_settings_name(
    secret: str, named: list[Manifest]
) -> None:
    for name, pod in pods(rendered(pull_secret=secret)):
        assert pod["spec"].get("imagePullSecrets", []) == named, name


@needs_kubectl
@pytest.mark.parametrize("tag", ["1234567", "12e45678", "0017", "1.5", "0x1f", "true"])
def test_a_tag_that_looks_like_no_string_is_one(tag: str) -> None:
    objects = rendered(images={manifests.AIRFLOW_IMAGE: f"windsock-airflow:{tag}"})
    [container, *_] = objects["Deployment", "airflow-scheduler"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"] == f"windsock-airflow:{tag}"


@pytest.mark.parametrize("value", ["1234567", "12e45678", "0017", "1.5", "+7", ".5", "5.", "off"])
def test_a_string_that_kubernetes_would_read_as_a_number_is_quoted(value: str) -> None:
    text = manifests.as_yaml([{"data": {"key": value}}])
    assert text == f"data:\n  key: '{value}'\n"
    assert list(yaml.safe_load_all(text)) == [{"data": {"key": value}}]
