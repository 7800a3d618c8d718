"""Faults that authors make in a DAG file, and what must be told of each.

They are the table of two tests: `tests/unit/terminal/test_faults.py` explains the tracebacks that
a real Airflow made of them (`tests/data/import_errors.json`), `tests/e2e/test_commands.py` imports
them.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.terminal.import_error import explain
from windsock.terminal.remedies import MOVED

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.terminal.places import Places

TOP = "from airflow.sdk import DAG, Param, dag, task\n"
EMPTY = "from airflow.providers.standard.operators.empty import EmptyOperator\n"
CHAINED = (
    'with DAG("chained"):\n'
    '    a, b = EmptyOperator(task_id="a"), EmptyOperator(task_id="b")\n'
    "    a >> b >> a\n"
)


@dataclass(frozen=True)
class Fault:
    """A DAG file that does not import.

    Attributes:
        source: Below `TOP`, which is line 1.
        line: Of the author's innermost frame; 0 if Airflow tells none.
        headline: The exception, and the first line of its message.
        detail: The first line below the headline that is no frame; empty if there is none.
        remedy: Words of what is said to be done.
    """

    source: str
    line: int
    headline: str
    detail: str = ""
    remedy: str = ""


FAULTS = {
    # What Python raises
    "assertion": Fault("assert 1 == 2\n", 2, "AssertionError"),
    "attribute": Fault(
        "None.load\n", 2, "AttributeError: 'NoneType' object has no attribute 'load'"
    ),
    "command": Fault(
        'import subprocess\nsubprocess.run(["false"], check=True)\n',
        3,
        "subprocess.CalledProcessError: Command '['false']' returned non-zero exit status 1.",
    ),
    "no_file": Fault(
        'open("no_such.yaml")\n',
        2,
        "FileNotFoundError: [Errno 2] No such file or directory: 'no_such.yaml'",
    ),
    "name": Fault("print(day)\n", 2, "NameError: name 'day' is not defined"),
    # The source cannot be read
    "indentation": Fault(
        "if True:\nday = 1\n",
        3,
        "IndentationError: expected an indented block after 'if' statement on line 2",
        "    day = 1",
    ),
    "syntax": Fault("def load(:\n    pass\n", 2, "SyntaxError: invalid syntax", "    def load(:"),
    "tabs": Fault(
        "if True:\n        a = 1\n\tb = 2\n",
        4,
        "TabError: inconsistent use of tabs and spaces in indentation",
        "    \tb = 2",
    ),
    "null_bytes": Fault(
        'day = "\0"\n', 0, "SyntaxError: source code string cannot contain null bytes"
    ),
    "latin_1": Fault(
        'day = "\udcfc"\n',
        2,
        "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xfc in position 0: "
        "invalid start byte",
        '    day = "�"',
    ),
    # Messages
    "empty_message": Fault("raise ValueError()\n", 2, "ValueError"),
    "several_lines": Fault(
        'raise ValueError("no day\\nno region\\nno store")\n', 2, "ValueError: no day", "no region"
    ),
    "empty_first_line": Fault(
        'raise ValueError("\\nno day\\nno region")\n', 2, "ValueError: no day", "no region"
    ),
    "unicode": Fault('raise ValueError("kein „Tag“ ✗")\n', 2, "ValueError: kein „Tag“ ✗"),
    "quoted_traceback": Fault(
        'raise RuntimeError("it ended:\\nTraceback (most recent call last):\\nKeyError: 1")\n',
        2,
        "RuntimeError: it ended:",
        "Traceback (most recent call last):",
    ),
    "notes": Fault(
        'error = ValueError("no day")\nerror.add_note("see config.yaml")\nraise error\n',
        4,
        "ValueError: no day",
        "see config.yaml",
    ),
    # Several exceptions
    "group": Fault(
        'raise ExceptionGroup("bad", [ValueError("day"), ExceptionGroup("in", [KeyError("x")])])\n',
        2,
        "ExceptionGroup: bad (2 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
    ),
    "cause": Fault(
        'try:\n    {}["day"]\nexcept KeyError as error:\n'
        '    raise RuntimeError("no config") from error\n',
        5,
        "RuntimeError: no config",
        "KeyError: 'day'",
    ),
    "context": Fault(
        'try:\n    {}["day"]\nexcept KeyError:\n    1 / 0\n',
        5,
        "ZeroDivisionError: division by zero",
        "KeyError: 'day'",
    ),
    # Ends, and what is too much
    "exit": Fault('import sys\nsys.exit("done")\n', 3, "SystemExit: done"),
    "exit_without_a_word": Fault("import sys\nsys.exit()\n", 3, "SystemExit"),
    "interrupt": Fault("raise KeyboardInterrupt\n", 2, "KeyboardInterrupt"),
    "kill": Fault(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        0,
        "the import ended its process by SIGKILL",
    ),
    "kill_by_a_real_time_signal": Fault(
        "import os\nos.kill(os.getpid(), 35)\n",
        0,
        "the import ended its process by signal 35",
    ),
    "timeout": Fault(
        "import time\ntime.sleep(600)\n",
        3,
        "AirflowTaskTimeout: the import had not ended after 5.0 s",
        remedy="`parse.import_timeout`",
    ),
    "memory": Fault("bytearray(2**34)\n", 2, "MemoryError", remedy="`parse.memory_limit_mb`"),
    "threads": Fault(
        "import threading, time\nfor _ in range(4000):\n"
        "    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n",
        4,
        "RuntimeError: can't start new thread",
        remedy="`parse.memory_limit_mb`",
    ),
    "recursion": Fault(
        "def load():\n    load()\nload()\n",
        3,
        "RecursionError: maximum recursion depth exceeded",
    ),
    "recursion_of_a_library": Fault(
        "import copy, sys\nsys.setrecursionlimit(150)\ndeep = []\nfor _ in range(300):\n"
        "    deep = [deep]\ncopy.deepcopy(deep)\n",
        7,
        "RecursionError: maximum recursion depth exceeded while calling a Python object",
    ),
    # Libraries
    "jinja": Fault(
        'import jinja2\njinja2.Template("{% if %}")\n',
        3,
        "jinja2.exceptions.TemplateSyntaxError: "
        "Expected an expression, got 'end of statement block'",
    ),
    "json": Fault(
        'import json\njson.loads("{")\n',
        3,
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
    ),
    "toml": Fault(
        'import tomllib\ntomllib.loads("a =")\n',
        3,
        "tomllib.TOMLDecodeError: Invalid value (at end of document)",
    ),
    "yaml": Fault(
        'import yaml\nyaml.safe_load("a: b: c")\n',
        3,
        "yaml.scanner.ScannerError: mapping values are not allowed here",
        '  in "<unicode string>", line 1, column 5:',
    ),
    "pydantic": Fault(
        "from pydantic import BaseModel\nclass Config(BaseModel):\n    day: int\n    region: str\n"
        'Config(day="x")\n',
        6,
        "pydantic_core._pydantic_core.ValidationError: 2 validation errors for Config",
        "day",
    ),
    # Imports
    "no_module": Fault(
        "import operators.mine\n",
        2,
        "ModuleNotFoundError: No module named 'operators'",
        remedy="Is it a package?",
    ),
    "no_provider": Fault(
        "from airflow.providers.http.operators.http import HttpOperator\n",
        2,
        "ModuleNotFoundError: No module named 'airflow.providers.http'",
        remedy="Add apache-airflow-providers-http to ",
    ),
    "no_provider_of_two_words": Fault(
        "from airflow.providers.apache.hive.operators.hive import HiveOperator\n",
        2,
        "ModuleNotFoundError: No module named 'airflow.providers.apache'",
        remedy="Add apache-airflow-providers-apache-hive to ",
    ),
    "moved": Fault(
        "from airflow.operators.bash_operator import BashOperator\n",
        2,
        "ModuleNotFoundError: No module named 'airflow.operators.bash_operator'",
        remedy="Use airflow.providers.standard.operators.bash.",
    ),
    "no_name": Fault(
        "from airflow.operators.bash import BashOperatr\n",
        2,
        "ImportError: cannot import name 'BashOperatr' from 'airflow.operators.bash' "
        "(unknown location)",
    ),
    # Airflow
    "airflow_exception": Fault(
        'from airflow.exceptions import AirflowException\nraise AirflowException("no region")\n',
        3,
        "AirflowException: no region",
    ),
    "airflow_skip": Fault(
        "from airflow.exceptions import AirflowSkipException\n"
        'raise AirflowSkipException("no region")\n',
        3,
        "AirflowSkipException: no region",
    ),
    "argument": Fault(
        'DAG("argument", schedule_interval="@daily")\n',
        2,
        "TypeError: DAG.__init__() got an unexpected keyword argument 'schedule_interval'",
    ),
    "argument_of_an_operator": Fault(
        f'{EMPTY}EmptyOperator(task_id="a", taks=1)\n',
        3,
        "TypeError: Invalid arguments were passed to EmptyOperator (task_id: a). "
        "Invalid arguments were:",
        "**kwargs: {'taks': 1}",
    ),
    "argument_of_a_task": Fault(
        "@dag\ndef build():\n    @task\n    def load(day): ...\n    load()\nbuild()\n",
        6,
        "TypeError: missing a required argument: 'day'",
    ),
    "task_id_twice": Fault(
        f'{EMPTY}with DAG("twice"):\n'
        '    EmptyOperator(task_id="a")\n    EmptyOperator(task_id="a")\n',
        5,
        "DuplicateTaskIdFound: Task id 'a' has already been added to the Dag",
    ),
    "cycle": Fault(
        EMPTY + CHAINED,
        0,
        "AirflowDagCycleException: Cycle detected in Dag: chained. Faulty task: b",
    ),
    "dag_id": Fault(
        'DAG("no blanks")\n',
        2,
        "ValueError: The key 'no blanks' has to be made of alphanumeric characters, dashes, dots, "
        "and underscores exclusively",
    ),
    "connection": Fault(
        'from airflow.sdk import Connection\nConnection.get("nope")\n',
        3,
        "AirflowNotFoundException: The conn_id `nope` isn't defined",
    ),
    "param_without_a_value": Fault(
        'DAG("required", schedule="@daily", params={"day": Param(None, type="string")})\n',
        2,
        "ValueError: Dag 'required' is not allowed to define a Schedule, as there are required "
        "params without default values, or the default values are not valid.",
        "airflow.sdk.exceptions.ParamValidationError: Invalid input for param day: None is not of "
        "type 'string'",
    ),
    "param_of_a_wrong_schema": Fault(
        'DAG("schema", schedule="@daily", params={"day": Param(None, type="strin")})\n',
        2,
        "ValueError: the schema of the param 'day' is not valid: "
        "'strin' is not valid under any of the given schemas (type)",
    ),
    "param_of_a_wrong_schema_without_a_schedule": Fault(
        'manual = DAG("manual", params={"day": Param(type="strin")})\n',
        0,
        "ValueError: the schema of the param 'day' is not valid: "
        "'strin' is not valid under any of the given schemas (type)",
    ),
    "param_that_is_no_json": Fault(
        'class Region:\n    def __repr__(self):\n        return "Region"\n'
        'DAG("region", params={"region": Region()})\n',
        5,
        "ParamValidationError: All provided parameters must be json-serializable. "
        "The value 'Region' is not serializable.",
        "TypeError: Object of type Region is not JSON serializable",
    ),
    "serialization": Fault(
        "from airflow.timetables.simple import NullTimetable\nclass Never(NullTimetable): ...\n"
        'never = DAG("never", schedule=Never())\n',
        0,
        "SerializationError: Failed to serialize DAG 'never': "
        "Timetable class 'serialization.Never' is not registered or you have a top level database "
        "access that disrupted the session. "
        "Please check the airflow best practices documentation.",
    ),
}
"""Name of the file, without `.py` → what is wrong with it. No fault has two lines of one place."""

IN_A_ZIP = Fault("1 / 0\n", 2, "ZeroDivisionError: division by zero")
ZIPPED = "many.zip"


def write(folder: Path) -> None:
    """Write a file for each fault, and a zip."""
    for name, fault in FAULTS.items():
        content = (TOP + fault.source).encode("utf-8", "surrogateescape")
        (folder / f"{name}.py").write_bytes(content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.py", TOP + IN_A_ZIP.source)
    (folder / "many.zip").write_bytes(packed.getvalue())


MOVES = """
import importlib
from airflow.sdk import DAG

def there(path):
    for module, name in ((path, ""), path.rpartition(".")[::2]):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        if not name or hasattr(found, name):
            return True
    return False

still = [old for old in {old} if there(old)]
absent = [new for new in {new} if not there(new)]
assert not still and not absent, (still, absent)
"""
"""A DAG file that imports where Airflow 3 has no `old` path, and every `new` one."""


def moves() -> str:
    """What `windsock.terminal.remedies` says of moved modules, for the Airflow that is there."""
    installed = ("airflow.sdk", "airflow.providers.common.sql", "airflow.providers.standard")
    imports = re.findall(r"from (\S+) import (\w+)", " ".join(MOVED.values()))
    new = [f"{module}.{name}" for module, name in imports]
    new += [path for path in MOVED.values() if path.startswith("airflow.")]
    return MOVES.format(old=list(MOVED), new=[path for path in new if path.startswith(installed)])


def table() -> dict[str, Fault]:
    """Path of the file in the DAG folder → its fault."""
    return {**{f"{name}.py": fault for name, fault in FAULTS.items()}, ZIPPED: IN_A_ZIP}


def check(path: str, trace: str, *, places: Places) -> None:
    """Compare what is told of a traceback with the table.

    Args:
        path: The DAG file.
        trace: What Airflow made of it.
        places: Where its folder is.
    """
    fault = table()[path]
    error = explain(trace, places=places, path=path)
    inner = path if path != ZIPPED else f"{ZIPPED}/inner.py"
    place = f"{places.shown(inner)}:{fault.line}" if fault.line else ""
    assert (error.place, error.headline) == (place, fault.headline)
    assert fault.remedy in error.remedy
    assert bool(fault.remedy) == bool(error.remedy)
    if fault.detail:
        assert fault.detail in error.details
    assert not any("site-packages" in line for line in error.details)


def as_recorded(trace: str, *, folder: str) -> str:
    """A traceback without the folders of the machine that made it."""
    for there, here in ((folder, "/home/me/dags"), (sys.base_prefix, "/usr")):
        trace = trace.replace(there, here)
    return re.sub(r'"/\S+(/lib/python3\.\d+/site-packages/)', r'"/venv\1', trace)
