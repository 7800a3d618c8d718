from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.config import load
from windsock.errors import ConfigurationError
from windsock.targets import choose
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["auto", "local"])
def test_without_a_choice_it_runs_locally(tmp_path: Path, name: str) -> None:
    settings = load({"target": name}, project=tmp_path)
    assert choose.target(settings).name == "local"
    assert choose.explain(settings).startswith("local")


def test_auto_explains_its_choice(tmp_path: Path) -> None:
    assert "needs no Docker" in choose.explain(load({}, project=tmp_path))


def test_making_a_target_touches_nothing(tmp_path: Path) -> None:
    choose.target(load({}, project=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_kind_is_its_own_context(tmp_path: Path) -> None:
    settings = load({"target": "kind", "cluster": {"kind_name": "demo"}}, project=tmp_path)
    assert choose.target(settings).name == "kind"
    assert choose.explain(settings) == "kind (context kind-demo, namespace windsock)"


def test_a_context_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs the name") as caught:
        choose.target(load({"target": "context"}, project=tmp_path))
    assert "--context NAME" in caught.value.hint


def test_a_context_that_nobody_allowed_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    cluster = {"context": "production", "allowed_contexts": ["lab"]}
    with pytest.raises(ConfigurationError, match="may not deploy to the context 'production'") as c:
        choose.target(load({"target": "context", "cluster": cluster}, project=tmp_path))
    assert "allowed_contexts: [lab, production]" in c.value.hint


def test_an_allowed_context_is_taken(tmp_path: Path) -> None:
    cluster = {"context": "lab", "allowed_contexts": ["lab"], "namespace": "anna"}
    settings = load({"target": "context", "cluster": cluster}, project=tmp_path)
    assert choose.explain(settings) == "context (context lab, namespace anna)"


def test_auto_is_what_is_up_here(tmp_path: Path) -> None:
    settings = load({}, project=tmp_path)
    Location(target="kind", context="kind-demo", namespace="anna").save(settings.state_folder)
    assert choose.target(settings).name == "kind"
    assert choose.explain(settings).endswith("(auto: it is up here)")
    Location.remove(settings.state_folder)
    assert choose.target(settings).name == "local"


def test_a_context_that_is_up_here_needs_leave_as_long_as_it_is(tmp_path: Path) -> None:
    allowed = load({"cluster": {"allowed_contexts": ["lab"]}}, project=tmp_path)
    place = Location(target="context", context="lab", namespace="anna")
    place.save(allowed.state_folder)
    assert choose.explain(allowed).startswith(str(place))
    with pytest.raises(ConfigurationError, match="may not deploy to the context 'lab'") as caught:
        choose.target(load({}, project=tmp_path))
    assert "allowed_contexts: [lab]" in caught.value.hint


def test_two_targets_do_not_share_a_state_folder(tmp_path: Path) -> None:
    settings = load({"target": "kind"}, project=tmp_path)
    Location(target="local").save(settings.state_folder)
    with pytest.raises(ConfigurationError, match="local is up here, not kind") as caught:
        choose.target(settings)
    assert "INVOKE_WINDSOCK_STATE" in caught.value.hint


def test_the_local_target_has_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no cluster"):
        choose.cluster_target(load({}, project=tmp_path))


def test_oktetos_context_needs_no_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKTETO_CONTEXT", "https://okteto.example.com")
    monkeypatch.setenv("OKTETO_NAMESPACE", "preview-7")
    settings = load({"target": "okteto"}, project=tmp_path)
    assert choose.target(settings).name == "okteto"
    assert choose.explain(settings) == "okteto (context okteto_example_com, namespace preview-7)"
