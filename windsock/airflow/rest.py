"""Authenticated JSON over HTTP to one Airflow, with errors in words.

The only module that imports httpx. SimpleAuthManager's token is fetched at the first request and
renewed when Airflow answers 401: it expires after 24 h by default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Parameters = Mapping[str, str | int | float | bool]

API = "/api/v2"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_UNAUTHORIZED = 401
_NOT_FOUND = 404
_SERVER_ERROR = 500
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
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._user = user
        self._password = password
        self._authorization = ""
        self._client = httpx.Client(
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
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: Any = None,
    ) -> Any:
        """One request below `/api/v2`; its JSON answer, None if it has no content.

        Raises:
            NotFound: 404.
            RequestRefused: Any other 4xx, with Airflow's own words.
            EnvironmentFailure: No answer, 5xx, or the user may not log in.
            DeadlineExceeded: No answer in time.
        """
        response = self._authenticated(method, path, parameters=parameters, body=body)
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
        request = self._build(
            "GET", path, parameters, None, headers={"accept-encoding": "identity"}
        )
        request.extensions["timeout"] = httpx.Timeout(silence).as_dict()
        response = self._send(request, stream=True)
        try:
            if response.is_error:
                response.read()
                raise self._failure(response, f"GET {path}")
            for line in response.iter_lines():
                if line.strip():
                    yield json.loads(line)
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"Airflow sent nothing for {silence:.0f} s") from None
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

    def _authenticated(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None,
        body: Any,
    ) -> httpx.Response:
        if not self._authorization:
            self._log_in()
        response = self._send(self._build(method, path, parameters, body))
        if response.status_code == _UNAUTHORIZED:
            # Refused before anything was done, so even a POST may be sent again.
            self._log_in()
            response = self._send(self._build(method, path, parameters, body))
        if response.is_error:
            raise self._failure(response, f"{method} {path}")
        return response

    def _build(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        body: Any,
        *,
        headers: dict[str, str] | None = None,
    ) -> httpx.Request:
        if not self._authorization:
            self._log_in()
        return self._client.build_request(
            method,
            f"{self.url}{API}{path}",
            params=dict(parameters) if parameters else None,
            json=body,
            headers={"authorization": self._authorization, **(headers or {})},
        )

    def _log_in(self) -> None:
        request = self._client.build_request(
            "POST",
            f"{self.url}/auth/token",
            json={"username": self._user, "password": self._password},
        )
        response = self._send(request)
        if response.status_code == _UNAUTHORIZED:
            raise EnvironmentFailure(
                f"Airflow at {self.url} does not let the user {self._user!r} in",
                "Another Airflow may answer there: `invoke status` shows what runs.",
            )
        if response.is_error:
            raise self._failure(response, "POST /auth/token")
        self._authorization = f"Bearer {response.json()['access_token']}"

    def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        try:
            return self._client.send(request, stream=stream)
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(
                f"Airflow at {self.url} did not answer {request.method} {request.url.path} in time",
                "`invoke status` shows its components.",
            ) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"Airflow does not answer at {self.url}: {error}",
            "`invoke status` shows what runs; `invoke up` starts what is missing.",
        )

    def _failure(
        self, response: httpx.Response, what: str
    ) -> ConfigurationError | EnvironmentFailure:
        words = detail(response)
        if response.status_code == _NOT_FOUND:
            return NotFound(words or f"{what}: not found", status=_NOT_FOUND)
        if response.status_code < _SERVER_ERROR and response.status_code != _UNAUTHORIZED:
            message = f"Airflow refuses {what}: {words or response.reason_phrase}"
            return RequestRefused(message, status=response.status_code)
        return EnvironmentFailure(
            f"Airflow failed at {what} ({response.status_code}): {words or response.reason_phrase}",
            "`invoke logs api-server` shows why.",
        )


def detail(response: httpx.Response) -> str:
    """Airflow's own words about a failure, without what was sent: that may hold secrets."""
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
