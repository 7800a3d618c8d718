from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from windsock.cluster.api.failures import refusal, unreachable

if TYPE_CHECKING:
    from windsock.errors import EnvironmentFailure

SERVER = "https://127.0.0.1:6443"


def refused(code: int, message: str) -> EnvironmentFailure:
    body = json.dumps({"kind": "Status", "message": message})
    return refusal(code, body, doing="apply ConfigMap x", server=SERVER, context="lab")


def test_a_missing_right_is_told_as_the_rule_that_would_give_it() -> None:
    error = refused(
        403,
        'pods is forbidden: User "anna" cannot create resource "pods" in API group "" in the '
        'namespace "lab"',
    )
    assert error.message == "the account anna may not create pods in namespace lab"
    assert 'apiGroups: [""], resources: ["pods"], verbs: ["create"]' in error.hint
    assert "a Role" in error.hint


def test_expired_credentials_are_told_as_such() -> None:
    error = refused(401, "Unauthorized")
    assert "does not accept the credentials of context lab" in error.message


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: small', "quota"),
        (409, "the object has been modified", "try again"),
        (422, "spec: Forbidden: updates to statefulset spec for fields", "invoke down"),
        (422, "spec.template: Invalid value: field is immutable", "invoke down"),
        (503, "apiserver is shutting down", "try again"),
    ],
)
def test_a_refusal_keeps_the_servers_words_and_says_what_to_do(
    code: int, message: str, hint: str
) -> None:
    error = refused(code, message)
    assert error.message == f"the cluster refused to apply ConfigMap x: {message}"
    assert hint in error.hint


def test_what_a_proxy_says_is_shown_too() -> None:
    error = refusal(502, "<h1>Bad Gateway</h1>", doing="list Pod", server=SERVER, context="lab")
    assert "<h1>Bad Gateway</h1>" in error.message


def test_a_cluster_that_does_not_answer_is_named_with_its_context() -> None:
    error = unreachable(ConnectionRefusedError("refused"), server=SERVER, context="lab")
    assert SERVER in error.message
    assert "kubectl --context lab" in error.hint


def test_a_certificate_of_a_cluster_that_was_made_anew_is_told_apart() -> None:
    error = unreachable(OSError("certificate verify failed"), server=SERVER, context="lab")
    assert "fetched again" in error.hint
