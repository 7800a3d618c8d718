from __future__ import annotations

import copy
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from windsock.cluster.manifests import render as manifests
from windsock.cluster.manifests import settings
from windsock.config import Settings
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[4]
BASE = ROOT / "kube" / "base"
IMAGES = {
    manifests.AIRFLOW_IMAGE: "windsock-airflow:1111",
    manifests.POSTGRES_IMAGE: "windsock-postgres:2222",
}
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kustomize is part of kubectl, which is not installed"
)

Manifest = dict[str, Any]


def base() -> list[Manifest]:
    """The objects of kube/base, without the labels that kustomize adds."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    found = [
        item
        for name in kustomization["resources"]
        for item in yaml.safe_load_all((BASE / name).read_text())
    ]
    template = (BASE / manifests.POD_TEMPLATE_KEY).read_text()
    found.append(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": manifests.POD_TEMPLATE},
            "data": {manifests.POD_TEMPLATE_KEY: template},
        }
    )
    return found


def complete(
    items: list[Manifest] | None = None, **changes: Any
) -> dict[tuple[str, str], Manifest]:
    arguments: dict[str, Any] = {
        "namespace": "anna",
        "images": IMAGES,
        "settings": {"AIRFLOW__CORE__PARALLELISM": "8", manifests.UI_ONLY: "http://127.0.0.1:1"},
        "dags_folder": "/home/anna/dags",
        **changes,
    }
    done = manifests.complete(base() if items is None else items, **arguments)
    return {(item["kind"], item["metadata"]["name"]): item for item in done}


def worker(objects: dict[tuple[str, str], Manifest]) -> Manifest:
    text = objects["ConfigMap", manifests.POD_TEMPLATE]["data"][manifests.POD_TEMPLATE_KEY]
    pod: Manifest = yaml.safe_load(text)
    return pod


def pods(objects: dict[tuple[str, str], Manifest]) -> Iterator[tuple[str, Manifest]]:
    yield "worker", worker(objects)
    for (kind, name), item in objects.items():
        if kind in ("Deployment", "StatefulSet", "Job"):
            yield name, item["spec"]["template"]


def checksums(objects: dict[tuple[str, str], Manifest]) -> dict[str, str]:
    return {
        name: pod["metadata"]["annotations"][manifests.CHECKSUM]
        for name, pod in pods(objects)
        if manifests.CHECKSUM in pod["metadata"].get("annotations", {})
    }


def rolled(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name, digest in after.items() if before.get(name) != digest}


# --- what is put into the objects -----------------------------------------------------------------


def test_everything_goes_to_the_namespace_that_was_asked_for() -> None:
    objects = complete()
    assert {item["metadata"]["namespace"] for item in objects.values()} == {"anna"}
    (subject,) = objects["RoleBinding", "airflow-scheduler"]["subjects"]
    assert subject["namespace"] == "anna"


def test_every_container_runs_an_image_with_a_digest() -> None:
    used = {
        container["image"] for _, pod in pods(complete()) for container in pod["spec"]["containers"]
    }
    assert used == set(IMAGES.values())


def test_the_settings_are_those_of_the_environment() -> None:
    wanted = {"AIRFLOW__CORE__PARALLELISM": "3"}
    assert complete(settings=wanted)["ConfigMap", manifests.SETTINGS]["data"] == wanted


def test_the_dag_processor_knows_the_folder_on_this_machine() -> None:
    (container,) = complete()["Deployment", "airflow-dag-processor"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert {"name": manifests.DAGS_FOLDER, "value": "/home/anna/dags"} in container["env"]


def test_another_image_makes_another_migration_and_the_same_one_does_not() -> None:
    def job(tag: str) -> str:
        objects = complete(images={**IMAGES, manifests.AIRFLOW_IMAGE: tag})
        (name,) = (name for kind, name in objects if kind == "Job")
        return name

    assert job("a:1") == job("a:1")
    assert job("a:1") != job("a:2")
    assert job("a:1").startswith("airflow-migrate-")


def test_the_same_input_gives_the_same_objects() -> None:
    assert complete() == complete()


# --- what rolls what ------------------------------------------------------------------------------


def test_a_changed_setting_rolls_all_of_airflow_and_not_the_database() -> None:
    before = checksums(complete())
    after = checksums(complete(settings={"AIRFLOW__CORE__PARALLELISM": "9"}))
    components = {f"airflow-{name}" for name in ("scheduler", "dag-processor", "triggerer")}
    assert components | {"airflow-api-server"} <= rolled(before, after)
    assert "postgres" not in after


def test_another_port_on_this_machine_rolls_the_api_server_alone() -> None:
    values = {"AIRFLOW__CORE__PARALLELISM": "8"}
    before = checksums(complete(settings={**values, manifests.UI_ONLY: "http://127.0.0.1:1"}))
    after = checksums(complete(settings={**values, manifests.UI_ONLY: "http://127.0.0.1:2"}))
    assert rolled(before, after) == {"airflow-api-server"}


def test_a_changed_pod_template_rolls_the_scheduler_alone() -> None:
    items = base()
    items[-1]["data"][manifests.POD_TEMPLATE_KEY] += "  priority: 7\n"
    assert rolled(checksums(complete()), checksums(complete(items))) == {"airflow-scheduler"}


# --- kube/ itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, _ in pods(complete())])
def test_pods_keep_to_the_restricted_profile(name: str) -> None:
    spec = dict(pods(complete()))[name]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 50000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_only_the_scheduler_has_a_token() -> None:
    with_token = {
        name for name, pod in pods(complete()) if pod["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"airflow-scheduler"}


def test_workers_get_no_secret_and_cannot_write_snapshots() -> None:
    pod = worker(complete())
    assert "secret" not in yaml.safe_dump(pod).lower()
    (mount,) = [
        mount for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "dags"
    ]
    assert mount["readOnly"] is True
    assert pod["spec"]["containers"][0]["name"] == "base", "the executor looks for this name"


def test_only_the_dag_processor_may_write_snapshots() -> None:
    writers = {
        name
        for name, pod in pods(complete())
        for container in pod["spec"]["containers"]
        for mount in container.get("volumeMounts", [])
        if mount["name"] == "dags" and not mount.get("readOnly")
    }
    assert writers == {"airflow-dag-processor"}


def test_the_pods_fit_on_a_small_node() -> None:
    def number(quantity: str) -> int:
        return int(quantity.rstrip("mMi"))

    wanted = [
        container["resources"]["requests"]
        for name, pod in pods(complete())
        for container in pod["spec"]["containers"]
    ]
    assert sum(number(request["cpu"]) for request in wanted) <= 500, "millicores, of 2000"
    assert sum(number(request["memory"]) for request in wanted) <= 2048, "MiB"


def test_a_template_without_affinity_is_else_the_one_of_base() -> None:
    plain = yaml.safe_load((BASE / manifests.POD_TEMPLATE_KEY).read_text())
    del plain["spec"]["affinity"]
    component = ROOT / "kube/components/any-node" / manifests.POD_TEMPLATE_KEY
    assert yaml.safe_load(component.read_text()) == plain


# --- rendering ------------------------------------------------------------------------------------


@needs_kubectl
@pytest.mark.parametrize("overlay", ["kind", "context", "ha", "okteto"])
def test_an_overlay_renders_and_every_object_is_labelled(overlay: str) -> None:
    rendered = manifests.render(ROOT, overlay)
    kinds = {item["kind"] for item in rendered}
    assert {"StatefulSet", "Deployment", "Job", "ConfigMap", "NetworkPolicy"} <= kinds
    assert "Secret" not in kinds
    for item in rendered:
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
    objects = complete(manifests.render(ROOT, "okteto"))
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
    found = dict(pods(complete(manifests.render(ROOT, "okteto"))))
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
def test_a_storage_class_for_many_nodes_frees_the_pods(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "kube", tmp_path / "kube")
    overlay = tmp_path / "kube/overlays/many"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../../base]\ncomponents: [../../components/read-write-many]\n"
    )
    rendered = manifests.render(tmp_path, "many")
    claims = [item for item in rendered if item["kind"] == "PersistentVolumeClaim"]
    assert [item["spec"]["accessModes"] for item in claims] == [["ReadWriteMany"]] * 2
    assert "affinity" not in yaml.safe_dump_all(rendered).lower()


@needs_kubectl
@pytest.mark.parametrize("many_nodes", [False, True])
def test_two_dag_processors_run_where_their_volume_can_be_mounted(
    tmp_path: Path, many_nodes: bool
) -> None:
    shutil.copytree(ROOT / "kube", tmp_path / "kube")
    components = ["../../components/ha", *["../../components/read-write-many"] * many_nodes]
    (tmp_path / "kube/overlays/ha/kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../../base"], "components": components})
    )
    [processor] = [
        item
        for item in manifests.render(tmp_path, "ha")
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "airflow-dag-processor"
    ]
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
def test_an_overlay_that_drops_the_settings_is_told_so(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "kube", tmp_path / "kube")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "airflow-settings"}}
    patch = yaml.safe_dump({**body, "$patch": "delete"})
    (tmp_path / "kube/overlays/context/kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../../base"], "patches": [{"patch": patch}]})
    )
    with pytest.raises(ConfigurationError, match="no ConfigMap airflow-settings"):
        manifests.objects(
            tmp_path,
            overlay="context",
            namespace="anna",
            airflow_image="windsock-airflow:1111",
            postgres_image="windsock-postgres:2222",
            settings={},
            dags_folder="/dags",
        )


@needs_kubectl
def test_the_whole_of_an_environment_comes_in_one_call() -> None:
    own = Settings(project=ROOT)
    objects = manifests.objects(
        ROOT,
        overlay="context",
        namespace="anna",
        airflow_image="windsock-airflow:1111",
        postgres_image="windsock-postgres:2222",
        settings=settings.variables(own, namespace="anna", base_url="http://127.0.0.1:1"),
        dags_folder="/dags",
    )
    assert len(objects) == len(base())
    assert manifests.settings_of(objects)["data"]
    assert ":dev" not in yaml.safe_dump_all(objects)


def test_an_unknown_overlay_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="there is no overlay") as caught:
        manifests.render(ROOT, "nowhere")
    assert "context" in caught.value.hint


def test_without_kubectl_a_person_is_told_which_one_to_get(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="kubectl is not installed") as caught:
        manifests.render(ROOT, "context")
    assert "1.27" in caught.value.hint


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts a program in kubectl's place that prints, complains and ends as told."""

    def stand_in(*, minor: str = "32", output: str = "", complaint: str = "") -> None:
        version = f'{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}'
        (tmp_path / "output").write_text(output)
        program = tmp_path / "kubectl"
        program.write_text(
            "#!/bin/sh\n"
            f"[ \"$1\" = version ] && {{ echo '{version}'; exit 0; }}\n"
            f"[ -z '{complaint}' ] || {{ echo '{complaint}' >&2; exit 1; }}\n"
            f"while read -r line; do echo \"$line\"; done <'{tmp_path}/output'\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=None)

    return stand_in


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


def test_objects_of_the_users_own_overlay_are_kept_as_they_are() -> None:
    own = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine"},
        "data": {"key": "windsock-airflow:dev"},
    }
    kept = complete([*base(), copy.deepcopy(own)])["ConfigMap", "mine"]
    assert kept["data"] == own["data"]


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


def test_every_pod_pulls_with_the_secret_that_the_settings_name() -> None:
    for name, pod in pods(complete(pull_secret="ghcr")):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "ghcr"}], name


def test_without_one_no_pod_names_a_secret_to_pull_with() -> None:
    for name, pod in pods(complete()):
        assert "imagePullSecrets" not in pod["spec"], name
