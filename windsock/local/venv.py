"""Airflow's virtual environment: built by uv from the compiled lock, whole or not at all.

A venv lies in a folder named by the digest of all that goes into it, so a changed lock, a changed
extra requirement or another interpreter means another folder, and going back is free while the
folder is one of those that were used last. The marker in it is written last, and its time is that
of the last use: a build that left no marker was interrupted, and is done anew. A lock makes a
second builder wait, also for a uv whose windsock was killed: uv goes on until it is done.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.files import cannot, private_folder, write_whole
from windsock.local.commands import Finished, run
from windsock.local.index import index_settings
from windsock.local.interpreter import find_interpreter
from windsock.local.requirements import Requirements, included, read_requirements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from windsock.config import Settings

MARKER = ".complete"
DOOMED = ".removing-"
COMPILED_LATER = ("kubernetes", "kubernetes_asyncio")
"""Half of all the source code, which Airflow does not import while it starts on this machine."""
COMPILED = ".compiled"
UNREACHABLE = ("Failed to fetch", "error sending request", "client error (Connect)", "dns error")
"""What uv says when no package index answers."""
KEPT = 3
"""How many venvs stay: each takes some hundred megabytes, and few branches have other packages."""


@dataclass(frozen=True, kw_only=True)
class Venv:
    """A complete virtual environment.

    Attributes:
        folder: Where it lies.
        digest: Of everything that went into it.
        created: Whether this call built it.
    """

    folder: Path
    digest: str
    created: bool

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def scripts(self) -> Path:
        """The folder for PATH."""
        return self.folder / "bin"

    def compile_later(self, environment: Mapping[str, str]) -> None:
        """Compile in the background what `ensure` has not compiled, unless that is done.

        Without its bytecode a package is compiled again by each process that imports it.

        Args:
            environment: Of the compiling process, which goes on when this one has ended.

        Raises:
            EnvironmentFailure: It cannot be started.
        """
        packages = self.folder.glob("lib/python*/site-packages/*")
        folders = [path for path in packages if path.name in COMPILED_LATER]
        if not folders or (self.folder / COMPILED).exists():
            return
        script = '{ nice -n 19 "$@" && : >"$0"; } >/dev/null 2>&1 &'
        run(
            ["sh", "-c", script, self.folder / COMPILED, *_compileall(self.python), *folders],
            environment=environment,
            folder=self.folder,
        )


@dataclass(frozen=True, kw_only=True)
class VenvRecipe:
    """All that goes into a venv.

    Attributes:
        folder: Holds the venvs, each in a folder named by its digest.
        python: The interpreter to build on; empty means the one that runs windsock.
        lock: The compiled requirements of Airflow itself.
        extra: The project's own requirements; the lock constrains them. It may not exist.
        environment: For uv: where to find packages, proxies, certificates.
    """

    folder: Path
    python: str
    lock: Path
    extra: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, folder: Path, *, environment: Mapping[str, str]) -> VenvRecipe:
        """The recipe of a project."""
        return cls(
            folder=folder,
            python=settings.local.python,
            lock=settings.lock,
            extra=settings.path(settings.requirements),
            environment=environment,
        )

    def find(self) -> Venv | None:
        """The venv of exactly these requirements if it is there; nothing is built.

        Raises:
            ConfigurationError: The interpreter or a file of requirements cannot be used.
        """
        _, wanted = self._wanted()
        return wanted if _is_complete(wanted) else None

    def ensure(self, progress: Callable[[str], None] = lambda _text: None) -> Venv:
        """The venv of exactly these requirements; a venv that is not there is built.

        Args:
            progress: Called with each stage of a build.

        Raises:
            ConfigurationError: The interpreter or an extra requirement cannot be used.
            EnvironmentFailure: No network, no space, no right to write.
        """
        interpreter, wanted = self._wanted()
        if _is_complete(wanted):
            with suppress(OSError):  # It is only known as older than it is.
                os.utime(wanted.folder / MARKER)
            return wanted
        private_folder(self.folder)
        with _building(self.folder, progress) as descriptor:
            if _is_complete(wanted):  # by the one that we waited for
                return wanted
            _remove(wanted.folder)
            self._build(wanted, interpreter, inherits=descriptor, progress=progress)
        return dataclasses.replace(wanted, created=True)

    def sources(self) -> tuple[Path, ...]:
        """The files that say what is installed; `extra` and what it includes may not exist."""
        return (self.lock, *included(self.extra))

    def _wanted(self) -> tuple[str, Venv]:
        """The interpreter, and the venv that is there or is to be built."""
        interpreter, version = find_interpreter(self.python, self.environment)
        parts = [
            "1",  # to be raised when the way of building changes
            os.path.realpath(interpreter),
            version,
            f"{sys.platform} {platform.machine()}",
        ]
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
        extra = read_requirements(self.extra)
        parts_of_extra = (extra.text.encode(), extra.constraints.encode()) if extra.text else ()
        for data in (_bytes(self.lock), *parts_of_extra):
            digest.update(b"\0" + hashlib.sha256(data).digest())
        name = digest.hexdigest()[:16]
        return interpreter, Venv(folder=self.folder / name, digest=name, created=False)

    def _build(
        self, venv: Venv, interpreter: str, *, inherits: int, progress: Callable[[str], None]
    ) -> None:
        uv = _Uv(venv, self.environment, inherits=inherits, progress=progress)
        extra = read_requirements(self.extra)
        if extra.text:
            # First: a slip of the pen is told before a minute is spent on Airflow.
            progress(f"resolving {self.extra.name}")
            uv.resolve_extra(self.extra, extra, interpreter, constraint=self.lock)
        progress("making the venv")
        uv.make(interpreter)
        progress("installing Airflow")
        uv.install(self.lock)
        if extra.text:
            progress(f"installing {self.extra.name}")
            uv.install_extra(self.extra, extra, constraint=self.lock)
        progress("compiling Airflow")
        uv.compile_now()
        write_whole(venv.folder / MARKER, "", mode=0o644)


def remove_unused(folder: Path, *, keep: int = KEPT) -> None:
    """Remove all venvs but those that were used last.

    Call it when nothing runs in any of them.

    Args:
        folder: Holds the venvs; it may not exist.
        keep: How many stay.

    Raises:
        EnvironmentFailure: One cannot be removed.
    """
    if not folder.is_dir():
        return
    with _opened(folder) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # One is being built; the next `down` removes what is unused.
        for path in sorted(folder.iterdir(), key=_last_used, reverse=True)[keep:]:
            _remove(path)


def _last_used(path: Path) -> float:
    """When a venv was used last, in seconds of the wall clock; 0 for what is no venv."""
    try:
        return (path / MARKER).stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def _building(folder: Path, progress: Callable[[str], None]) -> Iterator[int]:
    """Take the lock of the folder of venvs; yields the file descriptor that carries it."""
    with _opened(folder) as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another installation to end")
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The folder of venvs, whose file descriptor carries the lock."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise cannot(f"open {folder}", error) from error
    try:
        yield opened
    finally:
        os.close(opened)


class _Uv:
    """The calls of uv that a build needs, and its failures in words."""

    def __init__(
        self,
        venv: Venv,
        environment: Mapping[str, str],
        *,
        inherits: int,
        progress: Callable[[str], None],
    ) -> None:
        # Imported late: finding the binary is needed for a build only.
        from uv import find_uv_bin  # noqa: PLC0415

        self._venv = venv
        self._lock = inherits
        self._progress = progress
        self._unreachable = ""
        self._uv = find_uv_bin()
        hidden = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON"}
        allowed = {name: value for name, value in environment.items() if name not in hidden}
        self._environment = {
            **allowed,
            **index_settings(environment),
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
        }

    def _run(self, *command: str | Path, folder: Path | None = None, text: str = "") -> Finished:
        finished = run(
            command,
            environment=self._environment,
            folder=folder or self._venv.folder.parent,
            text=text,
            inherits=[self._lock],
        )
        if finished.disk_full:
            raise EnvironmentFailure(
                "the disk is full: Airflow's venv cannot be built",
                "Free about 1 GB and run the command again. uv said:\n" + finished.last_lines(5),
            )
        return finished

    def make(self, interpreter: str) -> None:
        made = self._run(
            self._uv, "venv", "--no-project", "--python", interpreter, self._venv.folder
        )
        if made.code != 0:
            raise EnvironmentFailure("uv cannot make a venv", made.last_lines())

    def _ask_index(
        self, *arguments: str | Path, folder: Path | None = None, text: str = ""
    ) -> Finished:
        """Run `uv pip …`; where no package index answers, with what is in uv's cache."""
        if not self._unreachable:
            finished = self._run(self._uv, "pip", *arguments, folder=folder, text=text)
            if finished.code == 0 or not any(sign in finished.errors for sign in UNREACHABLE):
                return finished
            self._progress("the package index does not answer: looking in uv's cache")
            self._unreachable = finished.last_lines(5)
        finished = self._run(self._uv, "pip", *arguments, "--offline", folder=folder, text=text)
        only = "Without the index only what is in uv's cache can be installed, and it is not all:"
        errors = f"{self._unreachable}\n{only}\n{finished.errors}"
        return dataclasses.replace(finished, errors=errors)

    def _install(self, *arguments: str | Path, **options: Any) -> Finished:
        return self._ask_index("install", "--python", self._venv.python, *arguments, **options)

    def install(self, lock: Path) -> None:
        # Everything that is needed is in the lock, so nothing is left to resolve.
        installed = self._install("--no-deps", "--requirements", lock)
        if installed.code != 0:
            raise EnvironmentFailure(
                f"Airflow cannot be installed from {lock.name}",
                "Is the package index reachable? pip's and uv's settings and proxies are honoured."
                "\nuv said:\n" + installed.last_lines(),
            )

    def compile_now(self) -> None:
        # Some packages have files that cannot be compiled: the exit code means nothing.
        later = f"/site-packages/({'|'.join(COMPILED_LATER)})/"
        compiles = _compileall(self._venv.python)
        self._run(*compiles, "-j", "0", "-x", later, self._venv.folder / "lib")

    def resolve_extra(
        self, file: Path, extra: Requirements, interpreter: str, *, constraint: Path
    ) -> None:
        """Find out whether the extra packages exist and go with Airflow; installs nothing."""
        with _constraints(extra, constraint) as constraints:
            resolved = self._ask_index(
                *("compile", "-", "--python", interpreter, *constraints, "--quiet"),
                folder=file.parent,
                text=extra.text,
            )
        if resolved.code != 0 and not self._unreachable:
            raise _disagreement(file, constraint, resolved)

    def install_extra(self, file: Path, extra: Requirements, *, constraint: Path) -> None:
        with _constraints(extra, constraint) as constraints:
            # As pip does it, paths in the file are relative to the folder that uv works in.
            installed = self._install(
                "--requirements", "-", *constraints, folder=file.parent, text=extra.text
            )
        if installed.code != 0:
            raise _disagreement(file, constraint, installed)


def _disagreement(file: Path, constraint: Path, finished: Finished) -> ConfigurationError:
    return ConfigurationError(
        f"the packages of {file} cannot be installed beside Airflow",
        f"Airflow's own versions ({constraint.name}) hold. uv said:\n" + finished.last_lines(),
    )


@contextmanager
def _constraints(extra: Requirements, lock: Path) -> Iterator[tuple[str | Path, ...]]:
    """The arguments for Airflow's versions and the project's own constraints."""
    with tempfile.TemporaryDirectory(prefix="windsock-") as folder:
        own = Path(folder, "constraints.txt")
        own.write_text(extra.constraints, encoding="utf-8")
        yield "--constraints", lock, "--constraints", own


def _compileall(python: Path) -> tuple[str | Path, ...]:
    """Makes the bytecode of the files and folders that follow, where it is not up to date."""
    return (python, "-m", "compileall", "-q")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{file} does not exist",
            "It lists what to install: restore it from the repository.",
        ) from None
    except OSError as error:
        raise cannot(f"read {file}", error) from error


def _is_complete(venv: Venv) -> bool:
    # `exists` follows the link: an interpreter that was uninstalled makes its venvs useless.
    return (venv.folder / MARKER).is_file() and venv.python.exists()


def _remove(path: Path) -> None:
    """Remove a venv; what is left after an interruption is no venv any more."""
    doomed = path
    if path.is_dir() and not path.name.startswith(DOOMED):
        doomed = path.with_name(f"{DOOMED}{path.name}-{os.getpid()}")
        with suppress(FileNotFoundError):
            (path / MARKER).unlink()
        try:
            path.rename(doomed)
        except OSError as error:
            raise cannot(f"remove {path}", error) from error
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink(missing_ok=True)
