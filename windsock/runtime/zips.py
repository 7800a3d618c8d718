"""The import errors of a zip: Airflow has one for each file in it, under the file's whole path."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def under_one_name(errors: Mapping[str, str], name: str) -> dict[str, str]:
    """The errors of a DAG file under the file's own name, so that they go when it is mended.

    Args:
        errors: Path → traceback.
        name: The DAG file's path in its folder.
    """
    inner = [path for path in errors if path != name]
    if not inner:
        return dict(errors)
    first, *others = inner
    lines = [errors.get(name, errors[first]).rstrip("\n")]
    lines += [f"{PurePath(path).name} in {name} does not import either" for path in others]
    return {name: "\n".join(lines) + "\n"}
