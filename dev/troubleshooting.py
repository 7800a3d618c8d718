"""The page of all errors that windsock tells, with their remedies: docs/troubleshooting.md.

It is made from the source. An error is a call of `WindsockError`, or of a class below it, whose
message is written there. What is put in at run time is shown by its name: `<path>`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windsock import errors
from windsock.runtime.processor.reasons import NO_DAG
from windsock.sync.scan import OUTSIDE
from windsock.sync.watch import LIMIT_HINT
from windsock.terminal import remedies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(errors.__file__).parent
PAGE = ROOT.parent / "docs" / "troubleshooting.md"

ROOMS = {
    "config": "Settings",
    "commands": "Commands",
    "flow": "Commands",
    "terminal": "Commands",
    "model": "Commands",
    "files": "Files",
    "json_lines": "The sync",
    "events": "The sync",
    "errors": "Commands",
    "sync": "The sync",
    "sync_process": "The sync",
    "store": "The sync",
    "runtime": "DAG files",
    "testing": "Tests of DAGs",
    "airflow": "Airflow, and its settings file",
    "local": "Airflow on this machine",
    "targets": "Targets",
    "cluster": "Clusters",
    "doctor": "Commands",
}
"""Module or package of windsock → the section of its errors."""

INTRODUCTION = f"""# Troubleshooting

Every error that windsock tells. Below it stands what to do, unless the error itself says that, or
the terminal shows there what the program that failed has written. `<name>` stands for what is put
in. This page is made from the code by `invoke docs.troubleshooting`; a test compares them.

The exit code of a command says whose turn it is:

| code | whose |
|---|---|
| {errors.DagError.exit_code} | the author of the DAG |
| {errors.ConfigurationError.exit_code} | the author of the command or the configuration |
| {errors.EnvironmentFailure.exit_code} | the environment: `invoke doctor` checks the machine |
| {errors.DeadlineExceeded.exit_code} | something did not happen in time |

## DAG files that do not import

The terminal shows the exception and your own file and line. Where that does not say what to do, one
of these lines stands below it:

"""

NO_ERRORS = f"""
## What the terminal tells while you work

Lines that begin with `!` are no errors: all else goes on.

- **\\<path> is not synced: {OUTSIDE}**\\
  Put a copy there, or sync the folder that it leads to as well: `sync.folders` in invoke.yaml.
- **the limit of inotify watches is reached … \\<folder> is scanned every second**\\
  {LIMIT_HINT} Until then a save is noticed up to a second later.
- **\\<reason>: \\<folder> is scanned every second**\\
  The kernel does not report changes there, as in a network folder. A save is noticed up to a
  second later; there is nothing to do.
- **\\<file>  no DAG is looked for in it: it is ignored by line \\<line> of \\<.airflowignore>**\\
  Change that line if the file is to have DAGs.
- **\\<file>  no DAG is looked for in it: it does not have the words "airflow" and "dag" in it**\\
  A comment with both is enough: `# airflow dag`.
- **\\<file>  {NO_DAG}**\\
  A function with `@dag` must be called. A DAG must have a name at the top of the module, or be made
  by `with DAG(…):`.
- **\\<file>  DAG \\<dag id> is also defined in \\<others>**\\
  Give one of them another `dag_id`: Airflow shows the one that it has parsed last.

These keep a part of your work from Airflow until they are mended:

- **\\<.airflowignore>:\\<line>  no pattern that Airflow can use**\\
  Mend the line. The rules of this file stay as they were until then.
- **\\<component> ends again and again: \\<reason>**\\
  The end of its log stands below it. `invoke logs <component>` shows more;
  `invoke restart <component>` tries again.
"""


@dataclass(frozen=True, order=True)
class Told:
    """An error in the source.

    Attributes:
        section: Of the page.
        message: The cause.
        hint: What to do; empty where the message says it all.
    """

    section: str
    message: str
    hint: str


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, *(f"- {_text(hint)}\n" for hint in sorted(set(_import_hints())))]
    parts += ["\nWhat Airflow 3 has moved:\n\n| Airflow 1 or 2 | use |\n|---|---|\n"]
    parts += [f"| `{old}` | {new} |\n" for old, new in sorted(remedies.MOVED.items())]
    parts.append(NO_ERRORS)
    section = ""
    for told in sorted(set(collect())):
        if told.section != section:
            section = told.section
            parts.append(f"\n## {section}\n\n")
        hint = f"\\\n  {_text(told.hint)}" if told.hint else ""
        parts.append(f"- **{_text(told.message)}**{hint}\n")
    return "".join(parts)


def write() -> Path:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return PAGE


def collect() -> Iterator[Told]:
    """Every error whose message is written in the source."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))
    }
    classes = _classes(trees.values())
    constants = {name: text for tree in trees.values() for name, text in _constants(tree)}
    for path, tree in trees.items():
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            names = constants | _assigned(function)
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and _name(call.func) in classes and call.args:
                    message, hint, *_ = *(_words(item, names) for item in call.args), ""
                    if _says(message):
                        yield Told(ROOMS[room], message, hint if _says(hint) else "")


def _import_hints() -> Iterator[str]:
    """The sentences of `windsock.terminal.remedies`."""
    tree = ast.parse(Path(remedies.__file__).read_text(encoding="utf-8"))
    constants = dict(_constants(tree))
    for item in ast.walk(tree):
        if isinstance(item, ast.Return) and item.value is not None:
            hint = _words(item.value, constants)
            if hint.endswith((".", ":")):
                yield hint


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names of a module that stand for a text."""
    for item in tree.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant | ast.JoinedStr):
            yield from ((_name(target), item.value) for target in item.targets)


def _classes(trees: Iterable[ast.Module]) -> set[str]:
    """The names of `WindsockError` and of all classes below it."""
    bases = {
        item.name: {_name(base) for base in item.bases}
        for tree in trees
        for item in ast.walk(tree)
        if isinstance(item, ast.ClassDef)
    }
    found = {errors.WindsockError.__name__}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def _assigned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, ast.expr]:
    """The variables of a function that get their value once."""
    found: dict[str, list[ast.expr]] = {}
    for item in ast.walk(function):
        if isinstance(item, ast.Assign):
            for target in item.targets:
                found.setdefault(_name(target), []).append(item.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _words(value: ast.expr, names: dict[str, ast.expr]) -> str:
    """A text as a person reads it, without what only a run can know."""
    match value:
        case ast.Constant(value=str(text)):
            words = text
        case ast.JoinedStr(values=parts):
            words = "".join(_words(part, names) for part in parts)
        case ast.FormattedValue(value=inner):
            known = isinstance(inner, ast.Name) and inner.id.isupper() and inner.id in names
            words = _words(inner, names) if known else _placeholder(inner)
        case ast.IfExp(body=body, orelse=other):
            words = " / ".join(filter(None, (_words(body, names), _words(other, names))))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            words = _words(left, names) + _words(right, names)
        case ast.Name(id=name) if name in names:
            words = _words(names[name], {})
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.List(elts=items)]):
            words = " ".join(_words(item, names) for item in items)
        case _:
            words = _placeholder(value)
    return words


def _placeholder(value: ast.expr) -> str:
    """What stands for a value."""
    match value:
        case ast.Call(args=[only]):
            return _placeholder(only)  # Of `", ".join(names)`: names
        case ast.Call(func=function, args=[_, _, *_]):
            return _placeholder(function)  # Of `run_url(dag_id, run_id)`: run url
        case ast.Starred(value=inner):
            return _placeholder(inner)
    name = _name(value) or next(
        (_name(item) for item in ast.walk(value) if isinstance(item, ast.Attribute)), ""
    )
    return f"<{name.strip('_').replace('_', ' ') or '…'}>"


def _name(value: ast.expr) -> str:
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _says(words: str) -> bool:
    """Whether there is more than placeholders."""
    return any(letter.isalpha() for letter in re.sub(r"<[^<>]*>", "", words))


def _text(words: str) -> str:
    """As Markdown shows it, in one line."""
    parts = " ".join(words.split()).split("`")
    for index in range(0, len(parts), 2):  # The others are code, in which nothing is escaped.
        parts[index] = parts[index].replace("<", r"\<").replace("*", r"\*")
    return "`".join(parts)
