"""The refusals of a cluster, in words a person can act on.

The Kubernetes API answers a failure with a `Status` object. Its message comes from the API server,
an admission controller or a webhook. It is shown as it is, with what to do about it.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND = HTTPStatus.NOT_FOUND
CONFLICT = HTTPStatus.CONFLICT
FORBIDDEN = HTTPStatus.FORBIDDEN
INVALID = HTTPStatus.UNPROCESSABLE_ENTITY

LONGEST_MESSAGE = 2000

_MAY_NOT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)


class ClusterUnreachable(EnvironmentFailure):
    """The API server does not answer, or the connection to it broke."""


class Refusal(EnvironmentFailure):
    """The API server answered, and the answer is no.

    Args:
        message: The cause.
        hint: What to do next.
        code: The HTTP status.
        words: The server's message.
    """

    def __init__(self, message: str, hint: str = "", *, code: int, words: str = "") -> None:
        super().__init__(message, hint)
        self.code = code
        self.words = words

    @property
    def passes(self) -> bool:
        """Whether the same request may be granted in a moment: the server cannot answer it now."""
        passing = {HTTPStatus.GONE, HTTPStatus.TOO_MANY_REQUESTS}
        return self.code in passing or self.code >= HTTPStatus.INTERNAL_SERVER_ERROR


def unreachable(error: Exception, *, server: str, context: str) -> ClusterUnreachable:
    """The error for a connection that could not be made, or broke.

    Args:
        error: Of the HTTP or websocket library.
        server: The URL.
        context: Its name in the kubeconfig.
    """
    text = _innermost(error)
    if "certificate" in text.lower():
        return ClusterUnreachable(
            f"{server} shows a certificate that context {context} does not trust: {text}",
            "Was the cluster made again? Then its kubeconfig entry must be fetched again.",
        )
    return ClusterUnreachable(
        f"the cluster of context {context} does not answer at {server}: {text}",
        f"Is the cluster up, and the network or VPN? `kubectl --context {context} get pods` asks "
        "it the same way.",
    )


def not_signed_in(error: Exception, *, context: str) -> ClusterUnreachable:
    """The error for credentials that a plugin or an identity provider did not give or renew."""
    return ClusterUnreachable(
        f"context {context} cannot sign in: {_innermost(error)}",
        f"Is the network or VPN up? `kubectl --context {context} get pods` signs in the same way.",
    )


def _innermost(error: BaseException) -> str:
    """The sentence nearest to the cause: urllib3 wraps it several times."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    if error.__cause__ is not None and not str(error):
        return _innermost(error.__cause__)
    text = str(error) or type(error).__name__
    return re.sub(r"^<[^>]*>: |^HTTPS?Connection(Pool)?\([^)]*\): ", "", text)


def refusal(code: int, body: str, *, doing: str, server: str, context: str) -> Refusal:
    """The error for an answer of the API server whose code is 400 or more.

    Args:
        code: The HTTP status.
        body: A `Status` object, or anything a proxy answers.
        doing: What was asked for, for example `apply Deployment airflow-scheduler`.
        server: The URL.
        context: Its name in the kubeconfig.
    """
    words = _words(code, body)
    known = _MAY_NOT.search(words)
    if code == HTTPStatus.UNAUTHORIZED or (known and known["user"] == "system:anonymous"):
        message = f"{server} does not accept the credentials of context {context}"
        hint = (
            f"They may have expired: sign in again. `kubectl --context {context} auth can-i get "
            "pods` shows the same."
        )
    elif known:
        message, hint = _missing_right(known.groupdict())
    else:
        message = f"the cluster refused to {doing}: {words}"
        hints = (hint for part, hint in _HINTS if part in words)
        hint = next(hints, _HINTS_OF_CODES.get(code, ""))
    return Refusal(message, hint, code=code, words=words)


def _words(code: int, body: str) -> str:
    try:
        message = json.loads(body).get("message")
    except (ValueError, AttributeError):  # a proxy answers
        message = None
    text = str(message or body).strip()[:LONGEST_MESSAGE]
    return text or f"{code} {responses.get(code, '')}".strip()


def _missing_right(asked: Mapping[str, str | None]) -> tuple[str, str]:
    namespace = asked["namespace"]
    where = f" in namespace {namespace}" if namespace else ""
    kind = "Role" if namespace else "ClusterRole"
    message = f"the account {asked['user']} may not {asked['verb']} {asked['resource']}{where}"
    return message, (
        f"It needs a {kind} with this rule: apiGroups: [{json.dumps(asked['group'] or '')}], "
        f"resources: [{json.dumps(asked['resource'])}], verbs: [{json.dumps(asked['verb'])}]."
    )


_HINTS = (
    ("exceeded quota", "Free some of the namespace's quota, or ask for more: `kubectl get quota`."),
    ("being terminated", "The namespace is being deleted; try again when it is gone."),
    ("PodSecurity", "The namespace enforces a PodSecurity profile that this pod does not fulfil."),
    ("webhook", "A policy of this cluster decides it: ask whoever looks after the cluster."),
    (
        "updates to statefulset spec",
        "A StatefulSet's volumes cannot be changed: `invoke down`, then `invoke up` creates it.",
    ),
    ("immutable", "It cannot be changed in place: `invoke down`, then `invoke up` creates it."),
)
"""A part of the server's message → what to do about it."""

_HINTS_OF_CODES: dict[int, str] = {
    CONFLICT: "Somebody else changed it at the same moment; try again.",
    HTTPStatus.TOO_MANY_REQUESTS: "The cluster is overloaded; try again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The cluster is overloaded or just starting; try again.",
}
