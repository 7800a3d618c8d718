"""Read `airflow_settings.yaml`: every complaint names its line.

The format is the one that the Astro command line reads (`settings/types.go` there). Two things are
different: an unknown key is an error, and `${NAME}` in a value stands for an environment variable,
so that no secret needs to be in the repository.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KEYS = {
    "connections": (
        *("conn_id", "conn_type", "conn_host", "conn_schema", "conn_login"),
        *("conn_password", "conn_port", "conn_uri", "conn_extra"),
    ),
    "variables": ("variable_name", "variable_value"),
    "pools": ("pool_name", "pool_slot", "pool_description"),
}
"""The keys of an entry of each kind; the first one is its id."""

_MASK = "***"
_VARIABLE = re.compile(r"\$(\$?)\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONNECTION_ID = re.compile(r"[\w.-]+")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One connection; `extra` is a JSON object. A failing test prints it: without its secrets."""

    connection_id: str
    conn_type: str
    host: str | None = None
    schema: str | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    port: int | None = None
    extra: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable; its value is text, and may be a secret."""

    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One pool; -1 slots are without limit."""

    name: str
    slots: int
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entries:
    """The entries of a settings file."""

    connections: tuple[Connection, ...] = ()
    variables: tuple[Variable, ...] = ()
    pools: tuple[Pool, ...] = ()

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The entries of a kind, as the API takes them."""
        bodies = [asdict(item) for item in getattr(self, kind)]
        for body in bodies:
            if body.get("name") == "default_pool":  # Only its number of slots may be changed.
                del body["description"]
        return bodies


def read(path: Path, *, environment: Mapping[str, str] = os.environ) -> Entries:
    """Read a settings file; one that does not exist has no entries.

    Args:
        path: Of the file.
        environment: For `${NAME}`.

    Raises:
        ConfigurationError: It cannot be read or used; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Entries()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    return _Reader(path, environment).read(text)


def content(path: Path, *, environment: Mapping[str, str] = os.environ) -> str:
    """All that decides what `read` returns: the text, and the variables that it names.

    Args:
        path: Of the file.
        environment: For `${NAME}`.

    Returns:
        Text with secrets in it; empty if there is no such file.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
    names = {name for escaped, name in _VARIABLE.findall(text) if not escaped}
    used = {name: environment[name] for name in names if name in environment}
    return json.dumps([text, used], sort_keys=True)


class _Item(NamedTuple):
    """One entry of a list: its line, and its values as YAML nodes."""

    line: int
    nodes: dict[str, yaml.Node]


class _Reader:
    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._loader = yaml.SafeLoader("")

    def read(self, text: str) -> Entries:
        try:
            self._loader = yaml.SafeLoader(text)
            return self._entries(self._loader.get_single_node())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            self._fail(mark.line if mark else 0, f"this is no YAML: {problem}")
        except RecursionError:
            self._fail(0, "this is nested too deeply, or refers to itself")

    def _entries(self, root: yaml.Node | None) -> Entries:
        if root is None or self._is_empty(root):
            return Entries()
        top = self._mapping(root, {"airflow"}, what="the top of the file")
        if "airflow" not in top or self._is_empty(top["airflow"]):
            return Entries()
        lists = self._mapping(top["airflow"], set(_KEYS), what="`airflow`")
        return Entries(
            connections=tuple(map(self._connection, self._items("connections", lists))),
            variables=tuple(map(self._variable, self._items("variables", lists))),
            pools=tuple(map(self._pool, self._items("pools", lists))),
        )

    # Entries

    def _connection(self, item: _Item) -> Connection:
        name = self._text(item, "conn_id")
        if not _CONNECTION_ID.fullmatch(name):
            hint = "Use letters, digits, `_`, `-` and `.` only."
            self._fail(item.line, f"{name!r} is no connection id", hint)
        single = ("conn_type", "conn_host", "conn_schema", "conn_login", "conn_password")
        fields = {key.removeprefix("conn_"): self._text(item, key) or None for key in single}
        conn_type = fields.pop("type")
        port, extra, uri = self._port(item), self._extra(item), self._text(item, "conn_uri")
        if uri:
            if conn_type or port or extra or any(fields.values()):
                self._fail(
                    item.line,
                    f"connection {name!r} has conn_uri and other fields",
                    "Use conn_uri alone, or the other fields without it.",
                )
            return self._from_uri(item, name, uri)
        if not conn_type:
            self._fail(item.line, f"connection {name!r} has neither conn_type nor conn_uri")
        return Connection(connection_id=name, conn_type=conn_type, port=port, extra=extra, **fields)

    def _port(self, item: _Item) -> int | None:
        text = self._text(item, "conn_port")
        if text in ("", "0"):  # 0 stands for none: Astro writes it so
            return None
        if not text.isascii() or not text.isdigit() or int(text) > _HIGHEST_PORT:
            self._fail(self._line(item, "conn_port"), f"conn_port is {text!r}, not a port")
        return int(text)

    def _extra(self, item: _Item) -> str | None:
        node = item.nodes.get("conn_extra")
        if node is None or self._is_empty(node):
            return None
        value, line = self._constructed(node), node.start_mark.line
        if isinstance(value, str):
            if not value.strip():
                return None
            try:
                value = json.loads(value)
            except ValueError as error:
                self._fail(line, f"conn_extra is no JSON: {error}")
        if not isinstance(value, dict):
            self._fail(line, "conn_extra must be a mapping, or a JSON object as text")
        try:
            return json.dumps(self._replaced(value, line), allow_nan=False) if value else None
        except (TypeError, ValueError) as error:
            self._fail(line, f"conn_extra cannot be written as JSON: {error}")

    def _from_uri(self, item: _Item, name: str, uri: str) -> Connection:
        """A connection from its URI, read as Airflow does (`models/connection.py`)."""
        line = self._line(item, "conn_uri")
        scheme, separator, rest = uri.partition("://")
        if not separator or not scheme:
            self._fail(line, "conn_uri is no URI", "For example: postgres://user:password@host/db")
        # http://https://host: the host itself is reached over https.
        protocol, nested, inner = rest.partition("://")
        nested = nested if protocol.isalnum() else ""
        try:
            parts = urlsplit(f"//{inner if nested else rest}")
            port = parts.port
        except ValueError as error:
            self._fail(line, f"conn_uri is no URI: {error}")
        host = unquote(parts.hostname or "")
        if "/" in host:  # a quoted path of a unix socket; only `hostname` loses its upper case
            host = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
        kind = scheme.replace("-", "_")
        return Connection(
            connection_id=name,
            conn_type="postgres" if kind == "postgresql" else kind,
            host=(f"{protocol}://{host}" if nested else host) or None,
            schema=unquote(parts.path[1:]) or None,
            login=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
            port=port,
            extra=_extra_of(parts.query),
        )

    def _variable(self, item: _Item) -> Variable:
        name = self._text(item, "variable_name")
        node = item.nodes.get("variable_value")
        if node is None or isinstance(node, yaml.ScalarNode):
            return Variable(key=name, value=self._text(item, "variable_value"))
        value, line = self._constructed(node), node.start_mark.line
        try:
            return Variable(key=name, value=json.dumps(self._replaced(value, line)))
        except (TypeError, ValueError) as error:
            self._fail(line, f"variable_value cannot be written as JSON: {error}")

    def _pool(self, item: _Item) -> Pool:
        name, slots = self._text(item, "pool_name"), self._text(item, "pool_slot")
        try:
            number = int(slots)
        except ValueError:
            number = -2
        if number < -1:
            self._fail(
                self._line(item, "pool_slot"),
                f"pool_slot of {name!r} is {slots!r}",
                "It must be a number of slots; -1 means without limit.",
            )
        return Pool(name=name, slots=number, description=self._text(item, "pool_description"))

    # YAML

    def _items(self, kind: str, lists: dict[str, yaml.Node]) -> list[_Item]:
        node = lists.get(kind)
        if node is None or self._is_empty(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node.start_mark.line, f"`{kind}` must be a list")
        items: list[_Item] = []
        seen: dict[str, int] = {}
        identifier = _KEYS[kind][0]
        for child in node.value:
            nodes = self._mapping(child, set(_KEYS[kind]), what=f"an entry of `{kind}`")
            if all(self._is_empty(value) for value in nodes.values()):
                continue  # the empty entry of Astro's template
            item = _Item(child.start_mark.line, nodes)
            name = self._text(item, identifier)
            if not name:
                self._fail(item.line, f"an entry of `{kind}` has no {identifier}")
            if name in seen:
                self._fail(item.line, f"{identifier} {name!r} is in line {seen[name] + 1} already")
            seen[name] = item.line
            items.append(item)
        return items

    def _mapping(self, node: yaml.Node, known: set[str], *, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node.start_mark.line, f"{what} must be a mapping")
        own = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fail(key.start_mark.line, f"{what} has a key that is no word")
            if own.count(key.value) > 1:
                self._fail(key.start_mark.line, f"the key {key.value!r} stands twice")
        self._loader.flatten_mapping(node)  # merges `<<`; own keys come last and win
        for key, _ in node.value:
            if key.value not in known:
                near = difflib.get_close_matches(str(key.value), known, 1)
                self._fail(
                    key.start_mark.line,
                    f"{what} knows no key {key.value!r}",
                    f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}.",
                )
        return {key.value: value for key, value in node.value}

    def _constructed(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except ValueError as error:  # a date such as 2026-13-01
            self._fail(node.start_mark.line, f"this is no YAML: {error}")

    @staticmethod
    def _is_empty(node: yaml.Node) -> bool:
        return isinstance(node, yaml.ScalarNode) and (
            node.tag == "tag:yaml.org,2002:null" or not node.value
        )

    @staticmethod
    def _line(item: _Item, key: str) -> int:
        return int(item.nodes[key].start_mark.line) if key in item.nodes else item.line

    def _text(self, item: _Item, key: str) -> str:
        """A scalar just as it is written (`1.10` stays `1.10`), `${NAME}` replaced."""
        node = item.nodes.get(key)
        if node is None or self._is_empty(node):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            self._fail(node.start_mark.line, f"{key} must be a single value")
        return str(self._replaced(str(node.value), node.start_mark.line))

    def _replaced(self, value: Any, line: int) -> Any:
        """A value with each `${NAME}` in its texts replaced; `$${` stands for `${`."""
        if isinstance(value, dict):
            return {key: self._replaced(item, line) for key, item in value.items()}
        if isinstance(value, list):
            return [self._replaced(item, line) for item in value]
        if not isinstance(value, str):
            return value
        if value == _MASK:
            self._fail(
                line,
                f"{_MASK} is the mask that Airflow shows in place of a secret",
                "Write the value, or ${NAME} to take it from an environment variable.",
            )

        def replacement(match: re.Match[str]) -> str:
            escaped, name = match.groups()
            if escaped:
                return match.group()[1:]
            if not _NAME.fullmatch(name):
                return match.group()  # not the name of a variable
            if name not in self._environment:
                self._fail(
                    line,
                    f"the environment variable {name} is not set",
                    f"Set it, or write $${{{name}}} for the text itself.",
                )
            return self._environment[name]

        return _VARIABLE.sub(replacement, value)

    def _fail(self, line: int, what: str, hint: str = "") -> NoReturn:
        raise ConfigurationError(
            f"{self._path}:{line + 1}: {what}", hint or "See docs/settings.md."
        )


def _extra_of(query: str) -> str | None:
    """The extra of a connection URI: `__extra__` whole, or its parameters, JSON where they are."""
    values: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if "__extra__" in values:
        return str(values["__extra__"])
    for key, text in values.items():
        with contextlib.suppress(ValueError):
            values[key] = json.loads(text) if text else text
    return json.dumps(values) if values else None
