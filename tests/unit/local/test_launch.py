from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from windsock.local import launch

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"


def _launch(description: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "description.json"
    file.write_text(json.dumps(description))
    return subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={"NOT": "inherited"},
    )


def test_a_program_gets_its_arguments_variables_and_folder_exactly(tmp_path: Path) -> None:
    odd = "100% 'single' \"double\" ;semicolon #hash\nline ✓ \\ $HOME `x`"
    folder = tmp_path / "ünï 'q' %"
    folder.mkdir()
    done = _launch(
        {
            "command": [sys.executable, "-I", "-c", SHOW, odd],
            "inherited": {"ODD": "loses", "PLAIN": odd},
            "environment": {"ODD": odd},
            "folder": str(folder),
            "user": None,
        },
        tmp_path,
    )
    arguments, environment, working = json.loads(done.stdout)
    assert arguments == [odd]
    assert environment["ODD"] == odd
    assert environment["PLAIN"] == odd
    assert "NOT" not in environment
    assert working == str(folder)


def test_a_program_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    description: dict[str, Any] = {
        "command": ["/no/such/program"],
        "inherited": {},
        "environment": {},
        "folder": str(tmp_path),
        "user": None,
    }
    done = _launch(description, tmp_path)
    assert done.returncode == 127
    assert "cannot start this program" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_description_is_told(tmp_path: Path) -> None:
    assert launch.main(str(tmp_path / "none")) == 127


def test_the_launcher_needs_the_standard_library_only() -> None:
    lines = [line.strip() for line in Path(launch.__file__).read_text().splitlines()]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    names = {line.split()[1].split(".")[0] for line in imports}
    assert names <= sys.stdlib_module_names
