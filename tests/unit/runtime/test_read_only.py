from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshots" / "one"
    (folder / "sub").mkdir(parents=True)
    (folder / "limits.txt").write_text("1")
    (tmp_path / "outside").mkdir()
    (tmp_path / "current").symlink_to("snapshots/one")
    return folder


def run(folder: Path, code: str, *, guard: str = "refuse_writes") -> str:
    """What code prints that runs, in a process of its own, where `snapshots` is guarded."""
    script = f"""
        import os, shutil, subprocess, sys, tempfile
        from pathlib import Path
        from windsock.runtime.read_only import {guard}
        print({guard}(Path("snapshots")))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script) + textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "write",
    [
        "Path('snapshots/one/limits.txt').write_text('2')",
        "open('current/limits.txt', 'a')",
        "open(b'snapshots/one/new', 'x')",
        "open('snapshots/one/limits.txt', 'r+')",
        "os.open('snapshots/one/limits.txt', os.O_WRONLY)",
        "os.chdir('current'); open('new', 'w')",
        "os.remove('snapshots/one/limits.txt')",
        "os.rename('snapshots/one/limits.txt', 'outside/x')",
        "os.rename('outside', 'current/x')",
        "os.mkdir('current/x')",
        "os.truncate('current/limits.txt', 0)",
        "os.chmod('current/limits.txt', 0o777)",
        "shutil.rmtree('snapshots/one/sub')",
        "shutil.rmtree(Path('snapshots/one'))",
        "os.link('snapshots/one/limits.txt', 'outside/x')",
        "os.symlink('/dev/null', 'current/x')",
        "os.remove(os.path.abspath('current/limits.txt'), dir_fd=os.open('outside', 0))",
        "shutil.copy('/dev/null', 'current/limits.txt')",
    ],
)
def test_python_refuses_to_write_into_a_snapshot_and_says_what_to_do(
    snapshot: Path, write: str
) -> None:
    said = run(snapshot.parents[1], write)
    assert "this is a snapshot of the DAG folder" in said
    assert "tempfile.mkdtemp()" in said
    assert sorted(path.name for path in snapshot.iterdir()) == ["limits.txt", "sub"]
    assert (snapshot / "limits.txt").read_text() == "1"


def test_python_reads_snapshots_and_writes_elsewhere(snapshot: Path) -> None:
    code = """
        assert open('current/limits.txt').read() == '1'
        assert os.listdir('snapshots/one') and os.path.getsize('current/limits.txt')
        Path('outside/x').write_text('2')
        os.rename('outside/x', 'outside/y')
        shutil.copytree('current/', 'copy')
        Path('copy/limits.txt').write_text('2')
        os.symlink(Path('current/limits.txt').resolve(), 'outside/link')
        outside = os.open('outside', os.O_RDONLY)
        os.chdir('snapshots/one')
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, 'x').write_text('3')
            Path(folder, 'below').mkdir()
        os.rename('link', 'limits.txt', src_dir_fd=outside, dst_dir_fd=outside)
        os.utime('limits.txt', dir_fd=outside)
        os.chdir('../..')
        assert Path('outside/limits.txt').is_symlink()
        os.remove('current')
        print('done')
    """
    assert run(snapshot.parents[1], code).splitlines()[-1] == "done"


def test_a_folder_that_cannot_be_made_is_not_read_only(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("")
    assert run(tmp_path, "", guard="mount_read_only") == "False\n"


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root has another view of the disk"
)
def test_nothing_that_root_starts_writes_into_a_snapshot(snapshot: Path) -> None:
    code = """
        def sh(command):
            print(subprocess.run(command, shell=True).returncode, flush=True)
        sh('echo 2 > snapshots/one/limits.txt')
        sh('rm snapshots/one/limits.txt')
        sh('touch current/new')
        sh('touch outside/new')
        Path('outside/ready').touch()
        while not Path('snapshots/two/later').exists():
            pass
        print(Path('snapshots/two/later').read_text())
    """
    folder = snapshot.parents[1]
    agent = """
        while [ ! -e outside/ready ]; do sleep 0.01; done
        mkdir snapshots/two && echo ok > x && mv x snapshots/two/later
    """
    with subprocess.Popen(["/bin/sh", "-c", agent], cwd=folder):  # For it nothing is different.
        said = run(folder, code, guard="mount_read_only")
    if said.startswith("False"):
        pytest.skip("this container may not mount")
    lines = said.splitlines()
    assert [line for line in lines if line in ("0", "1", "2")] == ["2", "1", "1", "0"]
    assert "Read-only file system" in said
    assert "ok" in lines
    assert (snapshot / "limits.txt").read_text() == "1"
