from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from windsock.cluster.api import kubeconfig
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
contexts:
- {name: lab, context: {cluster: c, user: u}}
- {name: production, context: {cluster: c, user: u}}
"""


def test_contexts_of_several_files_are_found_and_missing_files_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text(TEXT)
    (tmp_path / "two").write_text("contexts: [{name: other}]")
    files = [str(tmp_path / name) for name in ("one", "missing", "two")]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(files))
    assert kubeconfig.contexts(None) == ["lab", "production", "other"]
    assert kubeconfig.contexts(files[2]) == ["other"]


def test_an_unknown_context_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(TEXT)
    kubeconfig.check_context("lab", str(tmp_path / "config"))
    with pytest.raises(ConfigurationError, match="no context 'la'") as caught:
        kubeconfig.check_context("la", str(tmp_path / "config"))
    assert "lab, production" in caught.value.hint


def test_without_any_context_the_local_target_is_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no cluster to go to") as caught:
        kubeconfig.check_context("lab", str(tmp_path / "none"))
    assert "--target local" in caught.value.hint


@pytest.mark.parametrize("text", ["contexts: 3", "contexts: [{}]", "a: [", "- x"])
def test_a_damaged_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigurationError, match="config cannot be read"):
        kubeconfig.contexts(str(tmp_path / "config"))


def test_a_setting_that_names_no_file_means_kubectls_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep)
    monkeypatch.setenv("HOME", "/home/anna")
    assert kubeconfig.variable(None) == {"KUBECONFIG": "/home/anna/.kube/config"}
    assert kubeconfig.variable("~/one:two") == {"KUBECONFIG": "/home/anna/one:two"}


USED = """# of anna
apiVersion: v1
current-context: "lab"  # never production
contexts: []
"""


def use_kind(path: Path) -> None:
    path.write_text(path.read_text().replace('"lab"', "kind-demo"))


def test_the_current_context_is_put_back_and_nothing_else_is_changed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(USED)
    (tmp_path / "real").chmod(0o640)
    path = tmp_path / "config"
    path.symlink_to("real")
    with kubeconfig.current_context_unchanged(str(path), new="kind-demo"):
        use_kind(path)
    assert path.is_symlink()
    assert (tmp_path / "real").read_text() == USED.replace("  # never production", "")
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert sorted(item.name for item in tmp_path.iterdir()) == ["config", "real"]


def test_the_current_context_is_put_back_after_a_failure_that_removed_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(USED)

    def fail() -> None:
        with kubeconfig.current_context_unchanged(str(path), new="kind-demo"):
            path.write_text("apiVersion: v1\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == 'apiVersion: v1\ncurrent-context: "lab"\n'


def test_one_who_works_on_the_new_context_already_keeps_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("current-context: kind-demo\n")
    with kubeconfig.current_context_unchanged(str(path), new="kind-demo"):
        path.write_text("")  # It could not be made: an entry that is gone must not be current.
    assert path.read_text() == ""


def test_somebody_who_changes_the_kubeconfig_is_waited_for(tmp_path: Path) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    path.write_text(USED)
    freed = threading.Timer(0.05, lock.unlink)
    with kubeconfig.current_context_unchanged(str(path), new="kind-demo"):
        use_kind(path)
        lock.touch(mode=0)  # as kubectl and kind make it
        freed.start()
    freed.join()
    assert '"lab"' in path.read_text()
    assert not lock.exists()


def test_a_lock_that_nobody_gives_back_is_named(tmp_path: Path) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    path.write_text(USED)

    def use() -> None:
        with kubeconfig.current_context_unchanged(str(path), new="kind-demo", patience=0.01):
            use_kind(path)
            lock.touch(mode=0)

    with pytest.raises(EnvironmentFailure, match=r"config\.lock is there") as caught:
        use()
    assert "kubectl config use-context" in caught.value.hint
    assert lock.exists()
