from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import windsock
from windsock.store.agent import Options
from windsock.sync import bootstrap

FOLDER = Path(windsock.__file__).parent


def test_the_agent_needs_nothing_but_the_standard_library_and_its_earlier_modules() -> None:
    known: set[str] = set()
    for name in bootstrap.MODULES:
        tree = ast.parse((FOLDER / f"{name.replace('.', '/')}.py").read_text())
        imported = {
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        }
        imported |= {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        own = {module for module in imported if module.startswith("windsock")}
        assert own <= known
        assert {module.partition(".")[0] for module in imported - own} <= sys.stdlib_module_names
        known.add(f"windsock.{name}")


def test_an_agent_that_did_not_arrive_whole_says_so() -> None:
    command = bootstrap.command(sys.executable, Options(store="/nowhere"))
    done = subprocess.run(
        command, input=bootstrap.greeting()[:-1], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"before the agent had arrived" in done.stderr
    assert done.stdout == b""


def test_the_agent_does_not_depend_on_this_environment(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the standard library')")
    command = bootstrap.command(sys.executable, Options(store=str(tmp_path / "store")))
    done = subprocess.run(
        command,
        input=bootstrap.greeting(),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "LC_ALL": "C"},
    )
    assert done.returncode == 0
    assert b"windsock-agent" in done.stdout
