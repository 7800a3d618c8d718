"""Answers a parser's questions for variables and connections from Airflow's secrets backends.

Airflow asks its own API, which it makes inside the dag-processor for the first question. That takes
5 s of CPU (measured), in which the dag-processor does nothing else, and the file's import may reach
its timeout. The API in turn asks what is asked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowNotFoundException
from airflow.models.connection import Connection
from airflow.models.variable import Variable
from airflow.sdk.api.datamodels._generated import ConnectionResponse, VariableResponse
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Callable


class DirectClient:
    """Airflow's client, which is made only when something else is asked of it.

    Args:
        make: Makes Airflow's own.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self.variables = _Operations(self, "variables", _variable)
        self.connections = _Operations(self, "connections", _connection)

    def whole(self) -> Any:
        """Airflow's own client."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole(), name)


class _Operations:
    """The operations of one kind: `get` is ours, the others are Airflow's."""

    def __init__(self, client: DirectClient, kind: str, get: Callable[[str], Any]) -> None:
        self._client = client
        self._kind = kind
        self.get = get

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._client.whole(), self._kind), name)


def _variable(key: str) -> Any:
    value = Variable.get_variable_from_secrets(key)
    if value is None:
        return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": key})
    return VariableResponse(key=key, value=value)


def _connection(conn_id: str) -> Any:
    try:
        found = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": conn_id})
    names = ("conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra")
    return ConnectionResponse.model_validate({name: getattr(found, name) for name in names})
