"""Authenticated JSON over HTTP to one Airflow, with errors in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Parameters = Mapping[str, str | int | float | bool | Sequence[str]]

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_KEEPALIVE_SECONDS = 2.0
"""Shorter than the 5 s after which uvicorn closes an idle connection."""


class RequestRefused(ConfigurationError):
    """Airflow understood the request and refused it.

    Attributes:
        status: The HTTP status, 400 to 499.
    """

    def __init__(self, message: str, hint: str = "", *, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class NotFound(RequestRefused):
    """What the request names does not exist."""


class NoAnswer(EnvironmentFailure):
    """Airflow does not answer, or says that it failed: it may be starting, or very busy."""


class NoAnswerInTime(NoAnswer, DeadlineExceeded):
    """Airflow has taken the request, and does not answer."""

    exit_code = DeadlineExceeded.exit_code


class _Token(httpx.Auth):
    """SimpleAuthManager's token: asked for at the first request, and again when it has expired."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._user = user
        self._password = password
        self._authorization = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._authorization:
            yield from self._log_in(request)
        request.headers["authorization"] = self._authorization
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            # Airflow has done nothing yet, so even a POST may be sent again.
            yield from self._log_in(request)
            request.headers["authorization"] = self._authorization
            yield request

    def _log_in(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield httpx.Request(
            "POST",
            f"{self._url}/auth/token",
            json={"username": self._user, "password": self._password},
            extensions=request.extensions,  # The timeouts.
        )
        response.read()
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise EnvironmentFailure(
                f"Airflow at {self._url} does not let the user {self._user!r} in",
                "Another Airflow may answer there: `invoke status` shows what runs.",
            )
        if response.is_error:
            raise _failure(response, "POST /auth/token")
        self._authorization = f"Bearer {response.json()['access_token']}"


class Rest:
    """Requests to the API of one Airflow.

    Args:
        url: Of Airflow, without a trailing slash.
        user: For SimpleAuthManager.
        password: Of `user`; never part of a message.
        timeout: Seconds until Airflow must have answered one request.
        transport: Another httpx transport, for tests.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        timeout: float = 180.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._client = httpx.Client(
            base_url=f"{self.url}/api/v2",
            auth=_Token(self.url, user, password),
            timeout=timeout,
            transport=transport,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS),
            # The proxy of the environment is not for this machine.
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(
        self, method: str, path: str, *, parameters: Parameters | None = None, body: Any = None
    ) -> Any:
        """One request below `/api/v2`; its JSON answer, None if it has no content.

        Raises:
            NotFound: 404.
            RequestRefused: Any other 4xx, with Airflow's own words.
            NoAnswer: Nobody answers, or 5xx.
            NoAnswerInTime: No answer after `timeout` seconds.
            EnvironmentFailure: The user may not log in.
        """
        request = self._client.build_request(method, path, params=parameters, json=body)
        response = self._send(request)
        if response.is_error:
            raise _failure(response, f"{method} {path}")
        return json.loads(response.content) if response.content else None

    def lines(
        self, path: str, *, parameters: Parameters, silence: float
    ) -> Generator[dict[str, Any], None, None]:
        """The objects of a newline-delimited JSON stream, each as soon as it comes.

        Args:
            path: Below `/api/v2`.
            parameters: Of the query.
            silence: Seconds without a line after which the stream counts as dead.

        Raises:
            The same as `request`.
        """
        # Compressed, a short line may wait in the compressor for the next ones.
        headers = {"accept-encoding": "identity"}
        request = self._client.build_request(
            "GET", path, params=parameters, headers=headers, timeout=silence
        )
        response = self._send(request, stream=True)
        try:
            if response.is_error:
                response.read()
                raise _failure(response, f"GET {path}")
            for line in response.iter_lines():
                if line.strip():
                    yield json.loads(line)
        except httpx.TimeoutException:
            raise NoAnswerInTime(
                f"Airflow sent nothing for {silence:.0f} s", "`invoke status` shows its components."
            ) from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def pages(
        self, path: str, member: str, *, parameters: Parameters | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every item of a paged collection: as many requests as Airflow's page limit asks for."""
        offset = 0
        while True:
            query = {**(parameters or {}), "limit": 100, "offset": offset}
            answer = self.request("GET", path, parameters=query)
            yield from answer[member]
            offset += len(answer[member])
            if not answer[member] or offset >= answer["total_entries"]:
                return

    def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        try:
            return self._client.send(request, stream=stream)
        except httpx.TimeoutException as error:
            raise NoAnswerInTime(
                f"Airflow at {self.url} did not answer {request.method} {request.url.path} "
                f"within {self._timeout:g} s",
                "`invoke status` shows its components.",
            ) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> NoAnswer:
        return NoAnswer(
            f"Airflow does not answer at {self.url}: {error}",
            "`invoke status` shows what runs; `invoke up` starts what is missing.",
        )


def _failure(response: httpx.Response, what: str) -> ConfigurationError | EnvironmentFailure:
    words = _detail(response)
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotFound(words or f"{what}: not found", status=response.status_code)
    words = words or response.reason_phrase
    if response.is_client_error and response.status_code != httpx.codes.UNAUTHORIZED:
        message = f"Airflow refuses {what}: {words}"
        return RequestRefused(message, status=response.status_code)
    kind = EnvironmentFailure if response.is_client_error else NoAnswer
    return kind(
        f"Airflow failed at {what} ({response.status_code}): {words}",
        "`invoke logs api-server` shows why.",
    )


def _detail(response: httpx.Response) -> str:
    """Airflow's own words about a failure, without what was sent: that may contain secrets."""
    try:
        answer = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    if isinstance(answer, dict):
        return ": ".join(str(answer[key]) for key in ("reason", "message") if answer.get(key))
    if isinstance(answer, list):
        complaints = [
            f"{'.'.join(str(part) for part in item.get('loc', []))}: {item.get('msg', '')}"
            for item in answer
            if isinstance(item, dict)
        ]
        return "; ".join(dict.fromkeys(complaints))
    return str(answer)
