from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from windsock.cluster import kubeconfig
from windsock.errors import ConfigurationError

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
