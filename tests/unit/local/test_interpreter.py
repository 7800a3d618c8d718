from __future__ import annotations

import sys
from pathlib import Path

import pytest

from windsock.errors import ConfigurationError
from windsock.local.interpreter import find_interpreter

VERSION = ".".join(str(part) for part in sys.version_info[:3])


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_by_default_it_is_the_python_that_runs_windsock() -> None:
    assert find_interpreter("", {}) == (sys.executable, VERSION)


def test_a_path_or_a_name_is_asked_for_its_version() -> None:
    folder, name = Path(sys.executable).parent, Path(sys.executable).name
    for python in (sys.executable, name):
        path, version = find_interpreter(python, {"PATH": str(folder)})
        assert Path(path).exists()
        assert version == VERSION


def test_a_name_that_is_no_program_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="which is no program"):
        find_interpreter("no-such-python", {"PATH": "/bin"})


def test_a_program_that_is_no_python_is_refused(tmp_path: Path) -> None:
    fake = _script(tmp_path / "fake", "echo I am no Python")
    with pytest.raises(ConfigurationError, match="which is no Python"):
        find_interpreter(str(fake), {})


@pytest.mark.parametrize("version", ["[3, 8, 1]", "[3, 99, 0]"])
def test_a_python_that_airflow_does_not_run_on_is_refused(tmp_path: Path, version: str) -> None:
    fake = _script(tmp_path / "fake", f"echo '[{version}, \"/x/python\"]'")
    with pytest.raises(ConfigurationError, match="cannot be built on Python 3"):
        find_interpreter(str(fake), {})
