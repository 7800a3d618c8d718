"""Runs in Airflow's own Python: random folders, listed by Airflow and by windsock.

Prints a JSON object: `alike`, in how many folders both list the same files; `different`, the seeds
of folders in which they do not; `refused`, how many folders end Airflow's own listing; `silent`,
the seeds of those in which windsock tells no problem; and `missing`, those in which it does not
list a plain DAG file that stands at the top.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import zipfile
from pathlib import Path

from airflow.utils.file import list_py_file_paths

from windsock.runtime.processor.listing import DagFiles

SYNTAX = "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX"
TREES = 300
NAMES = ("a", "b", "team", "lib.d", "x y", "größe", "[z]", "#h", "!n")
FILES = ("one.py", "two.py", "helper.py", "three.PY", "note.txt", "four.zip", "five", "#6.py")
LINES = (
    "",
    "# a comment",
    "helper.py",
    "*.py",
    "!one.py",
    "team/",
    "/a",
    "a/*.py",
    "**/two.py",
    "/",
    "x?y  # a comment",
    "b\r",
    "[z",
)
BAD_LINES = ("!", "helpers\\", "\udcff")
CONTENTS = (b"from airflow.sdk import DAG", b"import os", b"", b"\xff\0 airflow asset")


def make_tree(chance: random.Random, root: Path, *, odd: bool) -> None:
    """Fill a folder; an odd one has links, and lines that Airflow does not like."""
    folders = [root]
    for _ in range(chance.randrange(6)):
        folder = chance.choice(folders) / chance.choice(NAMES)
        folder.mkdir(exist_ok=True)
        folders.append(folder)
    for folder in set(folders):
        for name in chance.sample(FILES, chance.randrange(len(FILES))):
            make_file(chance, folder / name)
        if chance.random() < 0.4:
            lines = chance.choices(LINES + (BAD_LINES if odd else ()), k=chance.randrange(5))
            text = "\n".join(lines).encode("utf-8", "surrogateescape")
            folder.joinpath(".airflowignore").write_bytes(text)
    for _ in range(chance.randrange(4) if odd else 0):
        link = chance.choice(folders) / chance.choice(("link", "link.py", "a"))
        if not link.exists() and not link.is_symlink():
            link.symlink_to(chance.choice([*folders, root / "none", link]))


def make_file(chance: random.Random, path: Path) -> None:
    """One file; a zip may be none."""
    if path.suffix == ".zip" and chance.random() < 0.7:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.py", chance.choice(CONTENTS))
    else:
        path.write_bytes(chance.choice(CONTENTS))


def main() -> None:
    """Compare the two listings in many folders."""
    alike = refused = 0
    different, silent, missing = [], [], []
    for seed in range(TREES):
        chance = random.Random(seed)  # noqa: S311 - the same folders each time
        syntax = os.environ[SYNTAX] = "regexp" if seed % 3 == 0 else "glob"
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            make_tree(chance, root, odd=seed % 2 == 1)
            ours = DagFiles(syntax=syntax, safe_mode=True).search(root)
            try:
                theirs = {
                    str(Path(path).relative_to(root)) for path in list_py_file_paths(str(root))
                }
            except (RuntimeError, ValueError):
                refused += 1
                if not ours.problems:
                    silent.append(seed)
                root.joinpath(".airflowignore").unlink(missing_ok=True)
                root.joinpath("plain.py").write_bytes(CONTENTS[0])
                again = DagFiles(syntax=syntax, safe_mode=True).search(root)
                if "plain.py" not in again.files:
                    missing.append(seed)
                continue
            if theirs == set(ours.files):
                alike += 1
            else:
                different.append(seed)
    answer = {
        "alike": alike,
        "different": different,
        "refused": refused,
        "silent": silent,
        "missing": missing,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
