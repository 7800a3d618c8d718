"""The refusals of a cluster, in words a person can act on.

The Kubernetes API answers a failure with a `Status` object, whose message is written by the API
server, an admission controller or a webhook; it is passed on, with what to do about it.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND = HTTPStatus.NOT_FOUND
CONFLICT = HTTPStatus.CONFLICT
FORBIDDEN = HTTPStatus.FORBIDDEN
INVALID = HTTPStatus.UNPROCESSABLE_ENTITY

LONGEST_MESSAGE = 2000

_PASSING = {HTTPStatus.GONE, HTTPStatus.TOO_MANY_REQUESTS}
"""What was asked for is too old by now, or the server is busy."""

_MAY_NOT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)


class ClusterUnreachable(EnvironmentFailure):
    """The API server does not answer, or the connection to it broke."""


class Refusal(EnvironmentFailure):
    """The API server answered, and the answer is no.

    Args:
        message: As of `WindsockError`.
        hint: As of `WindsockError`.
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
        return self.code in _PASSING or self.code >= HTTPStatus.INTERNAL_SERVER_ERROR


def unreachable(error: Exception, *, server: str, context: str) -> ClusterUnreachable:
    """A connection that could not be made, or broke.

    Args:
        error: What the HTTP or websocket library raised.
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
    """Credentials that could not be had, or not be renewed: as if the cluster did not answer.

    Args:
        error: What a plugin or an identity provider raised.
        context: Its name in the kubeconfig.
    """
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
    """What a response with a code of 400 or more means.

    Args:
        code: The HTTP status.
        body: Of the response: a `Status` object, or anything a proxy answers.
        doing: What was asked for, for example `apply Deployment airflow-scheduler`.
        server: The URL.
        context: Its name in the kubeconfig.
    """
    words = _words(body) or _phrase(code)
    known = _MAY_NOT.search(words)
    if code == HTTPStatus.UNAUTHORIZED or (known and known["user"] == "system:anonymous"):
        return Refusal(
            f"{server} does not accept the credentials of context {context}",
            f"They may have expired: sign in again. `kubectl --context {context} auth can-i get "
            "pods` shows the same.",
            code=code,
            words=words,
        )
    if known:
        return _not_permitted(known.groupdict(), code=code, words=words)
    return Refusal(
        f"the cluster refused to {doing}: {words}", _hint(code, words), code=code, words=words
    )


def _words(body: str) -> str:
    try:
        status: Any = json.loads(body)
    except ValueError:
        return body.strip()[:LONGEST_MESSAGE]
    message = status.get("message") if isinstance(status, dict) else None
    return str(message or body).strip()[:LONGEST_MESSAGE]


def _phrase(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _not_permitted(asked: Mapping[str, str | None], *, code: int, words: str) -> Refusal:
    namespace = asked["namespace"]
    where = f" in namespace {namespace}" if namespace else ""
    kind = "Role" if namespace else "ClusterRole"
    return Refusal(
        f"the account {asked['user']} may not {asked['verb']} {asked['resource']}{where}",
        f"It needs a {kind} with this rule: apiGroups: [{json.dumps(asked['group'] or '')}], "
        f"resources: [{json.dumps(asked['resource'])}], verbs: [{json.dumps(asked['verb'])}].",
        code=code,
        words=words,
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
    (
        "immutable",
        "It cannot be changed in place: `invoke down`, then `invoke up` creates it.",
    ),
)
"""A part of the server's message → what to do about it."""

_HINTS_OF_CODES: dict[int, str] = {
    CONFLICT: "Somebody else changed it at the same moment; try again.",
    HTTPStatus.TOO_MANY_REQUESTS: "The cluster is overloaded; try again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The cluster is overloaded or just starting; try again.",
}


def _hint(code: int, words: str) -> str:
    found = (hint for part, hint in _HINTS if part in words)
    return next(found, _HINTS_OF_CODES.get(code, ""))
