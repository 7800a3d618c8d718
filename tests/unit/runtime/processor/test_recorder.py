from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from windsock.runtime.processor.recorder import (
    Notes,
    Recording,
    record_settings,
    setting_of,
)

ROOT = Path(__file__).parents[4]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "bundle"
    (folder / "shop").mkdir(parents=True)
    (folder / "sql").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "till.py").write_text("total = 3\n")
    (folder / "sql" / "load.sql").write_text("select 1")
    (folder / "unused.py").write_text("")
    return folder


def record(bundle: Path, code: str, **variables: str) -> set[str]:
    """What code that runs under the audit hook, in a process of its own, is seen to use."""
    return notes_of(bundle, code, **variables)[0]


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import subprocess; subprocess.run(['true', '{}/sql/load.sql'])", "sql/load.sql"),
        ("import subprocess; subprocess.run(['true', '--file={}/sql/load.sql'])", "sql/load.sql"),
        (
            "import subprocess; subprocess.run('true \"{}/sql/load.sql\"', shell=True)",
            "sql/load.sql",
        ),
        ("import subprocess; subprocess.run(['true', 'load.sql'], cwd='{}/sql')", "sql/load.sql"),
        ("import subprocess; subprocess.run(['true'], cwd='{}/sql')", "sql/"),
        ("import subprocess; subprocess.run(['true', '{}'])", "./"),
        ("import os; os.system('true {}/sql/load.sql')", "sql/load.sql"),
        ("import os; os.waitpid(os.posix_spawn('/bin/true', ['true', '{}/sql'], {{}}), 0)", "sql/"),
        ("import sqlite3; sqlite3.connect('{}/rates.db')", "rates.db"),
        ("import sqlite3; sqlite3.connect('file:{}/rates.db?mode=rwc', uri=True)", "rates.db"),
    ],
)
def test_what_is_given_to_another_program_is_used(bundle: Path, code: str, used: str) -> None:
    assert used in record(bundle, code.format(bundle))


def test_what_is_given_to_another_program_need_not_be_a_path(bundle: Path) -> None:
    plain = record(bundle, "import subprocess; subprocess.run(['true'])")
    code = "import subprocess; subprocess.run(['true', '\\'', 'a=b=', '..', b'\\xff'])"
    assert record(bundle, code) == plain
    assert record(bundle, "import os; os.system('true \"')") == set()


def reasons(bundle: Path, code: str, **variables: str) -> set[str]:
    """What it is seen to read beside the bundle."""
    return notes_of(bundle, code, **variables)[1]


def notes_of(bundle: Path, code: str, **variables: str) -> tuple[set[str], set[str]]:
    """Both."""
    script = textwrap.dedent(
        """
        import os, sys
        from windsock.runtime.processor.recorder import Recording, record_uses
        bundle, code = sys.argv[1:]
        recording = Recording()
        child = os.fork()
        if child == 0:
            sys.path.append(bundle)
            record_uses(bundle, recording)
            exec(code)
            os._exit(0)
        os.waitpid(child, 0)
        notes = recording.read()
        for path in (*notes.paths, "", *notes.outside):
            sys.stdout.buffer.write(os.fsencode(path) + b"\\0")
        """
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(bundle), textwrap.dedent(code)],
        cwd=ROOT,
        env={**plain, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        check=True,
    )
    noted = [os.fsdecode(path) for path in ran.stdout.split(b"\0")[:-1]]
    middle = noted.index("")
    return set(noted[:middle]), set(noted[middle + 1 :])


def test_imports_and_files_that_are_read_are_seen(bundle: Path) -> None:
    code = f"""
        import shop.till
        open({str(bundle / "sql/load.sql")!r}).read()
        open("/etc/hostname").read() if os.path.exists("/etc/hostname") else None
        """
    assert record(bundle, code, PYTHONDONTWRITEBYTECODE="1") == {
        "shop/__init__.py",
        "shop/till.py",
        "shop/till/__init__.py",  # It would come before `till.py`.
        "sql/load.sql",
    }


def test_a_module_that_comes_from_bytecode_counts_as_its_source(
    bundle: Path, tmp_path: Path
) -> None:
    for cache in ({}, {"PYTHONPYCACHEPREFIX": str(tmp_path / "cache")}):
        for _ in range(2):  # The second time it is read from bytecode.
            assert "shop/till.py" in record(bundle, "import shop.till", **cache)
    assert list((bundle / "shop" / "__pycache__").glob("till*.pyc"))


def test_a_file_that_is_missing_is_seen_so_that_its_coming_counts(bundle: Path) -> None:
    code = f"""
        try:
            open({str(bundle / "later.yaml")!r})
        except FileNotFoundError:
            pass
        """
    assert "later.yaml" in record(bundle, code)


@pytest.mark.parametrize(
    "look",
    [
        "os.path.exists({path!r})",
        "os.path.isfile({path!r})",
        "os.path.islink({path!r})",
        "os.access({path!r}, os.R_OK)",
        "pathlib.Path({path!r}).is_file()",
        "pathlib.Path({path!r}).exists()",
        "os.path.exists(os.fsencode({path!r}))",
        "glob.glob({path!r})",
        "shutil.which({path!r})",
    ],
)
def test_what_is_looked_for_is_seen_be_it_there_or_not(bundle: Path, look: str) -> None:
    for name in ("sql/flag.txt", "sql/load.sql"):
        code = f"import glob, pathlib, shutil; {look.format(path=str(bundle / name))}"
        assert record(bundle, code) == {name}


def test_who_asks_for_a_status_notices_nothing(bundle: Path) -> None:
    code = f"""
        assert os.stat in os.supports_follow_symlinks
        assert os.stat.__name__ == "stat"
        class Disk:
            status = os.stat
        assert Disk().status({str(bundle)!r}).st_mode
        assert os.stat(path={str(bundle)!r}, follow_symlinks=False).st_mode
        folder = os.open({str(bundle)!r}, os.O_RDONLY)
        assert os.stat("unused.py", dir_fd=folder).st_mode
        assert os.stat(folder).st_mode
        try:
            os.stat(None)
        except TypeError:
            open({str(bundle / "unused.py")!r})
        """
    assert record(bundle, code) == {"unused.py"}


@pytest.mark.parametrize(
    ("statement", "seen"),
    [
        ("import later", {"later.py", "later", "later/__init__.py"}),
        ("import shop.later", {"shop/later.py", "shop/later", "shop/later/__init__.py"}),
        ("import importlib.util; importlib.util.find_spec('later')", {"later.py", "later"}),
    ],
)
def test_a_module_that_is_not_there_is_looked_for(
    bundle: Path, statement: str, seen: set[str]
) -> None:
    code = f"""
        try:
            {statement}
        except ImportError:
            pass
        """
    assert record(bundle, code) >= seen


def test_a_module_that_is_found_elsewhere_is_looked_for_only_in_earlier_places(
    bundle: Path,
) -> None:
    assert record(bundle, "import wsgiref, json.tool") == set(), "the bundle is last on sys.path"
    early = "sys.path.insert(0, sys.path.pop()); import wsgiref"
    assert record(bundle, early) == {"wsgiref", "wsgiref.py", "wsgiref/__init__.py"}


def test_installed_distributions_are_found_and_are_no_use_of_the_folder(bundle: Path) -> None:
    code = f"""
        import importlib, importlib.metadata
        assert importlib.metadata.version("pytest")
        assert importlib.metadata.entry_points(group="console_scripts")
        importlib.invalidate_caches()
        open({str(bundle / "unused.py")!r})
        """
    assert record(bundle, code) == {"unused.py"}


def test_a_folder_that_is_a_package_without_its_file_may_get_one(bundle: Path) -> None:
    (bundle / "sql" / "names.py").write_text("")
    assert "sql/__init__.py" in record(bundle, "import sql.names")


def test_folders_that_the_dag_lists_are_seen_but_not_those_of_the_import_system(
    bundle: Path,
) -> None:
    assert record(bundle, f"os.listdir({str(bundle / 'sql')!r})") == {"sql/"}
    assert record(bundle, f"list(os.scandir({str(bundle)!r}))") == {"./"}
    used = record(bundle, "import shop.till", PYTHONDONTWRITEBYTECODE="1")
    assert not [path for path in used if path.endswith("/")]


@pytest.mark.parametrize(
    "path", ["shop/../sql/load.sql", "./sql/load.sql", "sql//load.sql", "sql/./load.sql"]
)
@pytest.mark.parametrize("start", ["", "{bundle}/"])
def test_a_file_counts_by_its_plain_name_however_the_dag_names_it(
    bundle: Path, path: str, start: str
) -> None:
    code = f"os.chdir({str(bundle)!r}); open({start.format(bundle=bundle) + path!r})"
    assert record(bundle, code) == {"sql/load.sql"}


def test_what_a_link_leads_to_counts_as_well(bundle: Path) -> None:
    (bundle / "today.sql").symlink_to("sql/load.sql")
    (bundle / "outside").symlink_to("/etc/passwd")
    code = f"open({str(bundle / 'today.sql')!r}); open({str(bundle / 'outside')!r})"
    assert record(bundle, code) == {"today.sql", "sql/load.sql", "outside"}


@pytest.mark.parametrize(
    ("folder", "seen"), [("sql/", "sql/"), ("", "./"), ("shop/..", "./"), ("shop/../sql", "sql/")]
)
def test_a_folder_counts_by_its_plain_name(bundle: Path, folder: str, seen: str) -> None:
    assert record(bundle, f"os.listdir({f'{bundle}/{folder}'!r})") == {seen}


def test_a_working_folder_that_is_gone_does_not_disturb_the_dag(bundle: Path) -> None:
    code = f"""
        os.mkdir("/tmp/gone-{os.getpid()}"); os.chdir("/tmp/gone-{os.getpid()}")
        os.rmdir("/tmp/gone-{os.getpid()}")
        try:
            open("x")
        except FileNotFoundError:
            open({str(bundle / "sql/load.sql")!r})
        """
    assert record(bundle, code) == {"sql/load.sql"}


def test_what_was_used_before_the_parser_was_killed_is_known(bundle: Path) -> None:
    assert record(bundle, "import shop.till; os.kill(os.getpid(), 9)") >= {"shop/till.py"}
    assert record(bundle, "import shop.till; os._exit(9)") >= {"shop/till.py"}


def test_a_name_that_is_no_utf_8_survives(bundle: Path) -> None:
    (bundle / os.fsdecode(b"caf\xe9.sql")).write_text("")
    code = f"""
        os.chdir({str(bundle)!r})
        for name in os.listdir("."):
            if name.endswith(".sql"):
                open(os.path.abspath(name))
        """
    used = record(bundle, code)
    assert os.fsdecode(b"caf\xe9.sql") in used


def test_a_nul_in_a_name_does_not_split_what_is_noted(bundle: Path) -> None:
    code = f"""
        for name in ("/nope\\0r 1", {str(bundle)!r} + "/nope\\0b0"):
            assert not os.path.exists(name)
        assert os.path.exists({str(bundle / "sql/load.sql")!r}), "status is noted afterwards, too"
        """
    assert notes_of(bundle, code) == ({"nopeb0", "sql/load.sql"}, {"/noper 1"})


def test_odd_opens_do_not_disturb_the_dag(bundle: Path) -> None:
    code = f"""
        import io
        reader, writer = os.pipe()
        open(reader, closefd=True).close()
        open(os.fsencode({str(bundle / "sql/load.sql")!r})).close()
        os.listdir()
        os.listdir(b"/")
        os.scandir(os.open({str(bundle)!r}, os.O_RDONLY)).close()
        """
    assert "sql/load.sql" in record(bundle, code)


def test_a_dag_file_that_closes_every_file_is_not_disturbed(bundle: Path) -> None:
    code = f"""
        import shop.till
        os.closerange(3, 100)
        print("goes on", file=open({str(bundle / "unused.py")!r}, "w"))
        """
    assert "shop/till.py" in record(bundle, code)
    assert (bundle / "unused.py").read_text() == "goes on\n"


# --- what it reads beside the bundle --------------------------------------------------------------


def test_a_parse_that_reads_the_bundle_alone_reads_nothing_outside(bundle: Path) -> None:
    (bundle / "plain.py").write_text("import json, logging, shop.till\nVALUE = json.dumps([1])\n")
    code = f"""
        import plain, email.mime.text
        assert os.path.realpath({str(bundle / "plain.py")!r})
        open({str(bundle / "sql/load.sql")!r}).read()
        os.listdir({str(bundle)!r})
        """
    assert reasons(bundle, code) == set()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("from datetime import datetime; datetime.now()", "the name 'now'"),
        ("def make(): return date.today()", "the name 'today'"),
        ("def make(): return p.yesterday()", "the name 'yesterday'"),
        ("def make(): return p.tomorrow()", "the name 'tomorrow'"),
        ("def make(): return clock.ctime()", "the name 'ctime'"),
        ("import random", "the name 'random'"),
        ("import time; time.time()", "the name 'time'"),
        ("import subprocess; subprocess.run(['true'])", "another program"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "the network"),
        ("import os; os.path.exists('/somewhere/flag')", "/somewhere/flag"),
        ("import os; [os.listdir('/tmp'), 1]", "/tmp/"),
        ("open('/etc/hosts').read()", "/etc/hosts"),
    ],
)
def test_the_clock_the_network_and_other_files_are_reasons(
    bundle: Path, line: str, reason: str
) -> None:
    (bundle / "module.py").write_text(f"{line}\n")
    assert reasons(bundle, "import module") == {reason}


@pytest.mark.parametrize("name", ["config/tables.yaml", "include/prices.py", "flag"])
def test_a_file_below_airflow_home_is_a_reason(bundle: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path.resolve() / "home"
    file = home / name
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert reasons(bundle, f"open({str(file)!r})", AIRFLOW_HOME=str(home)) == {str(file)}


def test_what_airflow_itself_reads_below_its_home_is_no_reason(
    bundle: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    code = f"""
        for name in ("airflow.cfg", "webserver_config.py", "logs/scheduler/latest"):
            assert not os.path.exists({home!r} + "/" + name)
        """
    assert reasons(bundle, code, AIRFLOW_HOME=home) == set()


def test_a_module_that_is_not_installed_is_a_reason(bundle: Path, tmp_path: Path) -> None:
    shared = tmp_path.resolve() / "shared"
    shared.mkdir()
    (shared / "prices.py").write_text("")
    found = {str(shared / "prices.py")}
    assert reasons(bundle, f"sys.path.insert(0, {str(shared)!r}); import prices") == found
    assert reasons(bundle, "import prices", PYTHONPATH=f"{ROOT}:{shared}") == found


def test_the_search_for_distributions_is_no_reason(bundle: Path) -> None:
    code = "import importlib.metadata; importlib.metadata.entry_points()"
    assert reasons(bundle, code, PYTHONPATH=f"{ROOT}:{bundle.parent}:/nowhere") == set()


# --- the dag-processor's end ----------------------------------------------------------------------


def test_a_recording_is_read_once_with_its_result() -> None:
    recording = Recording()
    recording.note("a.py")
    recording.note("sql/")
    recording.finish(0.25, b'{"dags": []}')
    assert recording.peek() == recording.peek()
    assert recording.read() == Notes(paths={"a.py", "sql/"}, seconds=0.25, result=b'{"dags": []}')
    recording.note("too late.py")


@pytest.mark.parametrize("forged", [b"bx\0", b"bnan\0", b"r x\0", b"rinf x\0"])
def test_what_a_dag_file_writes_into_a_recording_raises_nothing(forged: bytes) -> None:
    recording = Recording()
    recording.note("a.py")
    os.write(recording._file.fileno(), forged)
    notes = recording.read()
    assert (notes.paths, notes.begun, notes.seconds) == ({"a.py"}, None, 0.0)


def test_where_there_are_no_files_in_memory_a_temporary_one_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    recording = Recording()
    recording.note("a.py")
    assert recording.read() == Notes(paths={"a.py"})


def request(kind: str, **fields: str) -> SimpleNamespace:
    """What a parser of Airflow sends."""
    return SimpleNamespace(type=kind, **fields)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (request("GetVariable", key="a/b"), "variables/a/b"),
        (request("GetConnection", conn_id="supplier"), "connections/supplier"),
        (request("GetVariableKeys"), "variables/"),
        (request("PutVariable", key="a"), ""),
        (request("DagFileParsingResult"), ""),
    ],
)
def test_a_request_is_known_by_the_setting_that_it_reads(
    message: SimpleNamespace, name: str
) -> None:
    assert setting_of(message) == name


def test_what_is_asked_of_airflow_is_noted_and_answered() -> None:
    class Comms:
        def send(self, msg: SimpleNamespace) -> str:
            return f"answer to {msg.type}"

    recording = Recording()
    comms = Comms()
    record_settings(comms, recording)
    assert comms.send(request("GetVariable", key="é")) == "answer to GetVariable"
    assert comms.send(request("GetVariable", key="a\0rx")) == "answer to GetVariable"
    assert comms.send(msg=request("PutVariable", key="b")) == "answer to PutVariable"
    recording.note("a.py")
    notes = recording.read()
    assert notes == Notes(paths={"a.py"}, settings=frozenset({"variables/é", "variables/arx"}))
