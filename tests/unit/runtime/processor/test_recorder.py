from __future__ import annotations

import json
import os
import resource
import selectors
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.runtime.processor.recorder import MEBIBYTE, SEPARATOR, Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    script = textwrap.dedent(
        """
        import os, socket, sys
        from windsock.runtime.processor.recorder import record_opens
        bundle, code, descriptor = sys.argv[1:]
        writer = socket.socket(fileno=int(descriptor))
        sys.path.append(bundle)
        record_opens(bundle, writer)
        exec(code)
        """
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    recording = Recording()
    with recording.reader:
        ran = subprocess.run(
            [
                *(sys.executable, "-c", script, str(bundle), textwrap.dedent(code)),
                str(recording.writer.fileno()),
            ],
            pass_fds=[recording.writer.fileno()],
            cwd=ROOT,
            env={**plain, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            check=False,
        )
        recording.writer.close()
        assert ran.returncode in (0, 9, -9), ran.stderr.decode()
        assert recording.read() is False
    return recording.paths


def test_imports_and_files_that_are_read_are_seen(bundle: Path) -> None:
    code = f"""
        import shop.till
        open({str(bundle / "sql/load.sql")!r}).read()
        open("/etc/hostname").read() if os.path.exists("/etc/hostname") else None
        """
    assert record(bundle, code, PYTHONDONTWRITEBYTECODE="1") == {
        "shop/__init__.py",
        "shop/till.py",
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


def test_a_reader_that_is_gone_does_not_disturb_the_dag(bundle: Path) -> None:
    recording = Recording()
    script = textwrap.dedent(
        """
        import os, socket, sys
        from windsock.runtime.processor.recorder import record_opens
        record_opens(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
        open(sys.argv[1] + "/unused.py").close()
        """
    )
    recording.reader.close()
    with recording.writer as writer:
        subprocess.run(
            [sys.executable, "-c", script, str(bundle), str(writer.fileno())],
            pass_fds=[writer.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )


# --- the reading end ------------------------------------------------------------------------------

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(names, max_size=6), st.data())
def test_paths_arrive_whole_however_they_are_cut(paths: list[str], data: st.DataObject) -> None:
    stream = b"".join(os.fsencode(path) + SEPARATOR for path in paths)
    cut = data.draw(st.integers(0, len(stream)))
    recording = Recording()
    with recording.reader, recording.writer:
        recording.writer.sendall(stream[:cut])
        assert recording.read() is True
        assert recording.paths <= set(paths)
        recording.writer.sendall(stream[cut:])
        recording.writer.close()
        assert recording.read() is False
    assert recording.paths == set(paths)


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


def test_a_recording_is_read_in_the_dag_processors_own_loop_and_leaves_it(
    selector: selectors.BaseSelector,
) -> None:
    recording = Recording()
    child = recording.writer.dup()
    recording.watch(selector)
    child.sendall(b"a.py\0")
    for _ in range(2):
        ((key, _),) = selector.select(timeout=5)
        handler, on_close = key.data
        if handler(recording.reader):
            assert recording.paths == {"a.py"}
            child.close()
        else:
            on_close(recording.reader)
    assert len(selector.get_map()) == 0
    on_close(recording.reader)  # Airflow may close it twice.
    recording.reader.close()


# --- memory ---------------------------------------------------------------------------------------


def limited(mebibytes: int, *, hard: int | None = None) -> tuple[int, int]:
    """The soft and hard limit of a process after `limit_memory`."""
    script = (
        "import json, resource, sys\n"
        "from windsock.runtime.processor.recorder import limit_memory\n"
        "hard = json.loads(sys.argv[2])\n"
        "if hard: resource.setrlimit(resource.RLIMIT_AS, (hard - 1, hard))\n"
        "limit_memory(int(sys.argv[1]))\n"
        "print(json.dumps(resource.getrlimit(resource.RLIMIT_AS)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(mebibytes), json.dumps(hard)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    soft, found = json.loads(told.stdout)
    return int(soft), int(found)


def test_memory_is_limited_only_where_it_is_wanted() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert limited(0) == before
    assert limited(2048)[0] == 2048 * MEBIBYTE


def test_no_more_is_asked_for_than_the_system_allows() -> None:
    hard = 3000 * MEBIBYTE
    assert limited(4096, hard=hard) == (hard, hard)
