"""Export connections, variables and pools as `airflow_settings.yaml`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import yaml

from windsock.airflow.settings_import import DEFAULT_POOL, IDENTIFIERS, MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.airflow.api import Airflow

_DEFAULT_POOL_SLOTS = 128

_EXPORT_HEAD = f"""\
# Written by `invoke settings.export`.
# Airflow's API shows no secrets: it puts {MASK} in their place. Replace each {MASK} by its
# value, or by ${{NAME}} to take it from an environment variable; a file with the mask
# is not imported.
"""


def export(api: Airflow) -> str:
    """The connections, variables and pools of an Airflow as a settings file, in YAML.

    Airflow's API masks the secrets.
    """
    entries = {
        "connections": [_exported_connection(item) for item in _sorted(api, "connections")],
        "variables": [
            {"variable_name": item["key"], "variable_value": item["value"] or ""}
            for item in _sorted(api, "variables")
        ],
        "pools": [
            {
                "pool_name": item["name"],
                "pool_slot": item["slots"],
                "pool_description": item["description"] or "",
            }
            for item in _sorted(api, "pools")
            if item["name"] != DEFAULT_POOL or item["slots"] != _DEFAULT_POOL_SLOTS
        ],
    }
    text = yaml.safe_dump({"airflow": entries}, sort_keys=False, allow_unicode=True)
    return _EXPORT_HEAD + text


def _sorted(api: Airflow, kind: str) -> list[dict[str, Any]]:
    return sorted(api.objects(kind), key=lambda item: str(item[IDENTIFIERS[kind]]))


def _exported_connection(item: Mapping[str, Any]) -> dict[str, Any]:
    same = ("host", "schema", "login", "password", "port")
    fields = {
        "conn_id": item["connection_id"],
        "conn_type": item["conn_type"],
        **{f"conn_{name}": item[name] for name in same},
        "conn_extra": item["extra"],
    }
    with contextlib.suppress(TypeError, ValueError):
        fields["conn_extra"] = json.loads(item["extra"])
    return {key: value for key, value in fields.items() if value not in (None, "", {})}
