"""Venvs by the real uv, from tiny wheels in a folder: no network is needed."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uv

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local import venv
from windsock.local.orphans import MARK, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Until = Callable[[Callable[[], object]], None]


def _wheel(folder: Path, name: str, version: str, *, needs: str = "") -> None:
    """Make a wheel with one module; https://packaging.python.org says what is in one."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if needs:
        metadata += f"Requires-Dist: {needs}\n"
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{information}/METADATA": metadata,
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        rows.append(f"{path},sha256={digest.decode()},{len(text)}")
    files[f"{information}/RECORD"] = "\n".join([*rows, f"{information}/RECORD,,", ""])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    _wheel(folder, "cloudy", "1.0")
    _wheel(folder, "cloudy", "2.0")
    _wheel(folder, "windy", "1.0")
    _wheel(folder, "stormy", "1.0", needs="cloudy>=2")
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def served(wheels: Path) -> Iterator[str]:
    """A package index of these wheels (PEP 503); yields its address."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for wheel in wheels.glob("*.whl"):
            folder = root / wheel.name.partition("-")[0]
            folder.mkdir(exist_ok=True)
            shutil.copy(wheel, folder)
        handler = functools.partial(Quiet, directory=place)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


class Project:
    """What `ensure` works on."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        folder.mkdir()
        self.venvs = folder / "venv"
        self.lock = folder / "requirements.lock"
        self.lock.write_text("cloudy==1.0\n")
        self.extra = folder / "requirements.txt"
        self.extra.write_text("# nothing yet\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_FIND_LINKS": str(wheels),
            "UV_NO_INDEX": "true",
            "UV_OFFLINE": "true",
            MARK: str(folder),
        }

    def ensure(self, progress: Callable[[str], None] = print) -> venv.Venv:
        recipe = venv.VenvRecipe(
            folder=self.venvs,
            python="",
            lock=self.lock,
            extra=self.extra,
            environment=self.environment,
        )
        return recipe.ensure(progress)


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Project:
    return Project(tmp_path / "prøj 100% 'q' ;x", wheels)


def _version(made: venv.Venv, module: str) -> str:
    done = subprocess.run(
        [made.python, "-c", f"import {module}; print({module}.version)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def test_a_venv_is_built_once_with_bytecode_and_found_again(project: Project) -> None:
    told: list[str] = []
    made = project.ensure(told.append)
    assert made.created
    assert _version(made, "cloudy") == "1.0"
    assert list(made.folder.rglob("cloudy.*.pyc"))
    assert told == ["making the venv", "installing Airflow", "compiling Airflow"]
    again = project.ensure(told.append)
    assert not again.created
    assert (again.folder, again.digest, len(told)) == (made.folder, made.digest, 3)


def test_large_packages_are_compiled_in_the_background(project: Project, until: Until) -> None:
    made = project.ensure()
    (packages,) = made.folder.glob("lib/python*/site-packages")
    (packages / "kubernetes").mkdir()
    (packages / "kubernetes" / "client.py").touch()
    made.compile_later(project.environment)
    until((made.folder / ".compiled").exists)
    assert list(packages.glob("kubernetes/__pycache__/client.*.pyc"))


def test_a_missing_extra_file_and_an_empty_one_are_the_same(project: Project) -> None:
    made = project.ensure()
    project.extra.unlink()
    again = project.ensure()
    assert (again.created, again.folder) == (False, made.folder)


def test_extra_packages_are_installed_beside_the_locked_ones(project: Project) -> None:
    first = project.ensure()
    project.extra.write_text("windy  # for the weather\ncloudy\n")
    made = project.ensure()
    assert made.folder != first.folder
    assert _version(made, "windy") == "1.0"
    assert _version(made, "cloudy") == "1.0"
    assert _version(first, "windy") == ""  # the old one is untouched
    project.extra.write_text("")
    assert project.ensure() == dataclasses.replace(first, created=False)


def test_those_that_were_used_last_are_kept(project: Project) -> None:
    made = []
    for packages in ("", "windy\n", "cloudy\n"):
        project.extra.write_text(packages)
        made.append(project.ensure())
        for venv_of_before in made:  # A second passes.
            marker = venv_of_before.folder / venv.MARKER
            os.utime(marker, (marker.stat().st_atime, marker.stat().st_mtime - 1))
    (project.venvs / "interrupted").mkdir()
    project.extra.write_text("")
    assert not project.ensure().created  # so the first one was used last

    venv.remove_unused(project.venvs, keep=3)
    assert {path.name for path in project.venvs.iterdir()} == {each.digest for each in made}
    venv.remove_unused(project.venvs, keep=2)
    left = {made[0].folder, made[2].folder}
    assert set(project.venvs.iterdir()) == left
    venv.remove_unused(project.venvs / "of-nobody")
    builds = os.open(project.venvs, os.O_RDONLY)
    fcntl.flock(builds, fcntl.LOCK_EX)
    venv.remove_unused(project.venvs, keep=0)
    os.close(builds)
    assert set(project.venvs.iterdir()) == left


def test_an_included_requirements_file_counts(project: Project) -> None:
    included = project.extra.with_name("more.txt")
    included.write_text("windy\n")
    project.extra.write_text("-r more.txt\n")
    first = project.ensure()
    assert _version(first, "windy") == "1.0"
    included.write_text("cloudy\n")
    assert project.ensure().digest != first.digest


def test_included_constraints_hold_and_windows_own_encoding_is_read(project: Project) -> None:
    """As PowerShell writes it, from another folder, with a name in quotes."""
    other = project.extra.parent / "more packages"
    other.mkdir()
    (other / "more.txt").write_text('--constraint "its constraints.txt"\ncloudy\nwindy\n')
    (other / "its constraints.txt").write_text("windy==1.0\n")
    project.lock.write_text("stormy==1.0\n")
    project.extra.write_bytes("-r 'more packages/more.txt'\r\n".encode("utf-16"))
    first = project.ensure()
    assert _version(first, "windy") == "1.0"
    assert _version(first, "cloudy") == "2.0"  # It was not constrained yet.
    project.extra.write_text("-r 'more packages/more.txt'  # in UTF-8\n")
    assert project.ensure().digest == first.digest
    (other / "its constraints.txt").write_text("windy==1.0\ncloudy<3\n")
    assert project.ensure().digest != first.digest


def test_a_wheel_beside_the_requirements_is_found(project: Project, wheels: Path) -> None:
    (wheel,) = wheels.glob("windy-*.whl")
    shutil.copy(wheel, project.extra.parent)
    project.extra.write_text(f"./{wheel.name}\n")
    assert _version(project.ensure(), "windy") == "1.0"


def test_a_slip_of_the_pen_is_told_before_anything_is_built(project: Project) -> None:
    told: list[str] = []
    project.extra.write_text("no-such-package-anywhere\n")
    with pytest.raises(ConfigurationError, match="cannot be installed beside Airflow") as caught:
        project.ensure(told.append)
    assert "no-such-package-anywhere" in caught.value.hint
    assert told == ["resolving requirements.txt"]


def test_without_a_package_index_all_that_is_cached_is_installed(
    project: Project, wheels: Path
) -> None:
    with served(wheels) as address:
        for name in ("UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE"):
            del project.environment[name]
        project.environment |= {"UV_HTTP_RETRIES": "0", "UV_DEFAULT_INDEX": address}
        project.extra.write_text("windy\n")
        first = project.ensure()
    for path in project.venvs.iterdir():
        shutil.rmtree(path)
    told: list[str] = []
    again = project.ensure(told.append)
    assert again.created
    assert again.digest == first.digest
    assert _version(again, "windy") == "1.0"
    assert any("does not answer" in line for line in told)
    project.lock.write_text("cloudy==2.0\n")
    with pytest.raises(EnvironmentFailure, match="Airflow cannot be installed") as caught:
        project.ensure()
    assert "what is in uv's cache can be installed, and it is not all" in caught.value.hint


def test_an_extra_package_that_contradicts_the_lock_is_told_in_uvs_words(project: Project) -> None:
    project.extra.write_text("stormy\n")
    with pytest.raises(ConfigurationError, match="cannot be installed beside Airflow") as caught:
        project.ensure()
    assert "stormy" in caught.value.hint
    assert "cloudy" in caught.value.hint
    project.extra.write_text("windy\n")
    assert project.ensure().created


def test_a_package_that_cannot_be_found_is_told(project: Project) -> None:
    project.lock.write_text("no-such-package-anywhere==1.0\n")
    with pytest.raises(EnvironmentFailure, match="Airflow cannot be installed from"):
        project.ensure()


def test_a_missing_lock_is_told(project: Project) -> None:
    project.lock.unlink()
    with pytest.raises(ConfigurationError, match="does not exist"):
        project.ensure()


def test_an_incomplete_venv_is_built_anew(project: Project) -> None:
    made = project.ensure()
    (made.folder / venv.MARKER).unlink()
    (made.folder / "half").write_text("")
    again = project.ensure()
    assert again.created
    assert not (again.folder / "half").exists()
    assert _version(again, "cloudy") == "1.0"
    assert list(project.venvs.iterdir()) == [again.folder]


def test_a_venv_whose_python_was_uninstalled_is_built_anew(project: Project) -> None:
    made = project.ensure()
    made.python.unlink()
    made.python.symlink_to("/no/such/python")
    assert project.ensure().created


def test_an_interrupted_build_leaves_no_child_and_nothing_that_looks_whole(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    slow, started = tmp_path / "slow-uv", tmp_path / "started"
    slow.write_text(
        f"#!/bin/sh\n[ $1 = venv ] && exec '{uv.find_uv_bin()}' \"$@\"\n"
        f"sleep 600 &\ntouch '{started}'\nwait\n"
    )
    slow.chmod(0o755)

    def interrupt() -> None:
        until(started.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(uv, "find_uv_bin", lambda: str(slow))
        with pytest.raises(KeyboardInterrupt):
            project.ensure()
    thread.join()
    until(lambda: marked(Path(project.environment[MARK])) == [])
    (half,) = project.venvs.iterdir()
    assert not (half / venv.MARKER).exists()
    assert project.ensure().created


def test_a_full_disk_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full-uv"
    full.write_text("#!/bin/sh\necho 'error: No space left on device (os error 28)' >&2\nexit 2\n")
    full.chmod(0o755)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(full))
    with pytest.raises(EnvironmentFailure, match="the disk is full"):
        project.ensure()


def test_the_users_own_virtual_environment_does_not_get_in_the_way(
    project: Project, tmp_path: Path
) -> None:
    project.environment |= {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(tmp_path)}
    before = {path.name for path in Path(sys.prefix).iterdir()}
    made = project.ensure()
    assert _version(made, "cloudy") == "1.0"
    assert {path.name for path in Path(sys.prefix).iterdir()} == before


def test_nothing_runs_to_find_a_complete_venv(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.ensure()

    def forbidden(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert not project.ensure().created
