"""The settings of an environment: `invoke.yaml`, `INVOKE_*` variables and flags, checked once.

Invoke merges them in its own order (flags, environment, project file, the defaults below); this
module turns the merged mapping into frozen dataclasses and refuses what cannot be used. Every
setting has its default here and its line in docs/configuration.md.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TARGETS = ("auto", "local", "kind", "context", "okteto")
REBUILDS = ("ask", "auto", "never")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""A name that Kubernetes takes for a namespace (RFC 1123 label)."""
TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False}
"""The words for yes and no in an environment variable."""
REGISTRY = re.compile(
    r"(localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:))(:\d{1,5})?"
    r"(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*",
    re.ASCII,
)
"""The beginning of an image's name: a host, its port, a path."""
SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
FOLDER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)
"""The name of a further folder in Airflow; with a hyphen Python cannot import from the folder."""
AIRFLOW_KEY = re.compile(r"\w+\.\w+", re.ASCII)


@dataclass(frozen=True)
class _Check:
    """What a setting must be, in the annotation of its field.

    Attributes:
        is_usable: Whether a value, already of the right type, can be used.
        hint: What to write instead.
    """

    is_usable: Callable[[Any], object]
    hint: str


def _between(low: float, high: float) -> _Check:
    return _Check(lambda value: low <= value <= high, f"It must lie between {low} and {high}.")


def _one_of(words: tuple[str, ...]) -> _Check:
    return _Check(words.__contains__, f"Use one of: {', '.join(words)}.")


def _empty_or(pattern: re.Pattern[str], hint: str) -> _Check:
    return _Check(lambda value: not value or pattern.fullmatch(value), hint)


_Port = Annotated[int, _between(1, 65535)]
_Seconds = Annotated[float, _between(1, 86_400)]
_WholeSeconds = Annotated[int, _between(1, 86_400)]
_Name = Annotated[
    str,
    _Check(
        NAME.fullmatch, "Use lower-case letters, digits and hyphens, for example `windsock-anna`."
    ),
]


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Airflow's own processes on this machine."""

    python: str = ""
    """The interpreter of Airflow's venv; empty means the one that runs windsock."""
    port: _Port = 8080
    """The port of Airflow's UI and API; another one is taken when it is busy."""
    parallelism: Annotated[int, _between(1, 256)] = 4
    """How many tasks run at once; Airflow forks as many workers when it starts."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Airflow on Kubernetes: the targets `kind`, `context` and `okteto`."""

    context: str = ""
    """The kube context of the target `context`."""
    allowed_contexts: tuple[str, ...] = ()
    """The contexts that windsock may deploy to; also its own kind cluster and Okteto's."""
    kubeconfig: str = ""
    """A kubeconfig file; empty means what kubectl would use."""
    namespace: _Name = "windsock"
    """Where everything is deployed; on the target `okteto` this is Okteto's namespace."""
    overlay: Annotated[str, _empty_or(NAME, "Name a folder below kube/overlays.")] = ""
    """A folder below kube/overlays; empty means the one named like the target."""
    skip_unserved: bool = False
    """Go on without objects whose kind the cluster does not serve."""
    take_over: bool = False
    """Take the sync over, once, from whoever else syncs to the namespace."""
    registry: Annotated[
        str,
        _empty_or(
            REGISTRY,
            "Write what images' names begin with, the host first and nothing before it, for "
            "example `ghcr.io/anna`, `docker.io/anna` or `127.0.0.1:5000`.",
        ),
    ] = ""
    """Where images are pushed to, and nodes pull them from, on the target `context`."""
    pull_secret: Annotated[
        str,
        _empty_or(
            SECRET_NAME,
            "Name a Secret in the namespace: `kubectl get secrets` lists them.",
        ),
    ] = ""
    """The Secret in the namespace that nodes pull images with; empty means none."""
    kind_name: _Name = "windsock"
    """The name of the kind cluster."""
    port: _Port = 8080
    """The port on this machine at which the UI and API answer."""


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """How saves travel."""

    quiet: Annotated[float, _between(0.001, 10)] = 0.01
    """Seconds without a further change after which a save is sent."""
    longest: Annotated[float, _between(0.001, 60)] = 0.5
    """Seconds after which a save is sent even if changes keep coming."""
    keep_snapshots: Annotated[int, _between(1, 10_000)] = 20
    """How many of the newest snapshots stay even if nothing refers to them."""
    maximum_bytes: Annotated[int, _between(0, 2**60)] = 2 * 1024**3
    """The size above which older, unreferenced snapshots go even if there are few."""
    folders: dict[str, str] = field(default_factory=dict)
    """Further folders that travel with the DAG folder: folder → its name in Airflow."""


@dataclass(frozen=True, kw_only=True)
class ParseSettings:
    """How Airflow parses DAG files."""

    processes: Annotated[int, _between(1, 64)] = 2
    """How many files are parsed at once."""
    import_timeout: Annotated[float, _between(0.1, 86_400)] = 30.0
    """Seconds a DAG file may take to import before Airflow reports an import error."""
    file_timeout: _WholeSeconds = 50
    """Seconds after which the parser of a file is killed, whatever it does."""
    memory_limit_mb: Annotated[int, _between(0, 2**24)] = 4096
    """Address space in MiB one parser may use (0 means no limit; Linux only)."""
    interval: _WholeSeconds = 60
    """Seconds after which an unchanged file is parsed again, if it reads something elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one environment.

    Attributes:
        project: The folder of tasks.py; relative paths below are relative to it.
    """

    project: Path
    target: Annotated[str, _one_of(TARGETS)] = "auto"
    """Where it runs: `local`, `kind`, `context`, `okteto`, or `auto`."""
    dags: str = "dags"
    """The DAG folder, in this repository or in another one."""
    state: str = ".windsock"
    """The folder of all files that windsock makes."""
    airflow_settings: str = "airflow_settings.yaml"
    """Connections, variables and pools, in the format Astro users know."""
    env_file: str = ".env"
    """Environment variables for Airflow on every target, as Astro and Compose read them."""
    requirements: str = "docker/requirements.txt"
    """The project's own packages, installed into Airflow's environment."""
    rebuild: Annotated[str, _one_of(REBUILDS)] = "ask"
    """Whether `invoke up` rebuilds when requirements change: `auto`, `ask` or `never`."""
    tests: str = "tests/dags"
    """The end-to-end tests of the DAGs."""
    up_timeout: _Seconds = 180.0
    """Seconds until a component that does not become healthy is a failure."""
    run_schedules: bool = False
    """Whether DAGs run by themselves: else new ones are paused, and none catches up on the past."""
    airflow: dict[str, str] = field(default_factory=dict)
    """Further Airflow settings, `section.key: value`; they override windsock's own."""
    local: LocalSettings = field(default_factory=LocalSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    parse: ParseSettings = field(default_factory=ParseSettings)

    def path(self, value: str) -> Path:
        """A setting that is a path, made absolute (`~` expanded)."""
        return self.project / Path(value).expanduser()

    @property
    def dags_folder(self) -> Path:
        """The folder whose saves are synced; a link stays one, it may be swapped."""
        return _tidy(self.path(self.dags))

    @property
    def lock(self) -> Path:
        """Airflow's compiled requirements."""
        return self.project / "docker" / "requirements.lock"

    @property
    def further_folders(self) -> dict[str, Path]:
        """Name in Airflow → folder, of each further folder that is synced; see `dags_folder`."""
        return {name: _tidy(self.path(folder)) for folder, name in self.sync.folders.items()}

    @property
    def state_folder(self) -> Path:
        """The folder of all files that windsock makes."""
        return self.path(self.state)


def _tidy(path: Path) -> Path:
    """A path without `..`, unless that would lead to another place because of a link."""
    short = Path(os.path.normpath(path))
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def defaults() -> dict[str, Any]:
    """The defaults as a plain mapping, for Invoke's configuration hierarchy."""
    values = dataclasses.asdict(Settings(project=Path()))
    del values["project"]
    return values


def load(values: Mapping[str, Any], *, project: Path) -> Settings:
    """Check merged configuration values.

    Args:
        values: The `windsock` section as Invoke merged it.
        project: The folder of tasks.py.

    Raises:
        ConfigurationError: An unknown key, a value of the wrong type or out of range.
    """
    settings: Settings = _build(Settings, values, where="windsock", project=project)
    if settings.sync.longest < settings.sync.quiet:
        raise ConfigurationError(
            f"windsock.sync.longest is {settings.sync.longest}",
            f"It must not be less than windsock.sync.quiet, {settings.sync.quiet}.",
        )
    paths = {
        name: _resolved(settings, getattr(settings, name), where=name)
        for name in ("airflow_settings", "env_file", "requirements", "tests", "state", "dags")
    }
    _check_state(paths["state"], project=project, synced=[paths["dags"], *_further(settings)])
    for key in settings.airflow:
        if not AIRFLOW_KEY.fullmatch(key):
            raise ConfigurationError(
                f"windsock.airflow has the key {key!r}",
                "Write it as section.key, for example `core.max_active_tasks_per_dag: 8`.",
            )
    return settings


def _check_state(state: Path, *, project: Path, synced: list[Path]) -> None:
    """Refuse a state folder that `invoke down --volumes` must not remove."""
    for precious in (project.resolve(), *synced, Path.home()):
        if precious.is_relative_to(state):
            raise ConfigurationError(
                f"windsock.state is {state}, and {precious} is in it",
                "Name a folder for windsock alone: `invoke down --volumes` removes it.",
            )
    for folder in synced:
        if state.is_relative_to(folder):
            raise ConfigurationError(
                f"windsock.state is {state}, in the folder {folder}, which is synced",
                "Name a folder elsewhere: the files of windsock would be synced as DAGs.",
            )


def _further(settings: Settings) -> list[Path]:
    """The resolved further folders; a name that cannot be used is an error."""
    names = list(settings.sync.folders.values())
    for folder, name in settings.sync.folders.items():
        if not FOLDER_NAME.fullmatch(name) or names.count(name) > 1:
            raise ConfigurationError(
                f"windsock.sync.folders has the name {name!r} for {folder}",
                "Give each folder another plain name, for example `include: include`.",
            )
    return [
        _resolved(settings, folder, where=f"sync.folders[{folder!r}]")
        for folder in settings.sync.folders
    ]


def _resolved(settings: Settings, value: str, *, where: str) -> Path:
    try:
        return settings.path(value).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # A loop of links, no such user, a NUL …
        raise ConfigurationError(
            f"windsock.{where} is {value!r}", f"It cannot be used as a path: {error}."
        ) from error


def _build(kind: type[Any], values: Mapping[str, Any], *, where: str, **known: Any) -> Any:
    """Make the dataclass `kind` of a mapping, checking names and types."""
    fields = {item.name: item for item in dataclasses.fields(kind) if item.name not in known}
    hints = typing.get_type_hints(kind, include_extras=True)
    arguments: dict[str, Any] = dict(known)
    for name, value in values.items():
        if name not in fields:
            raise ConfigurationError(
                f"{where}.{name} is no setting of windsock",
                f"Known here: {', '.join(sorted(fields))}. See docs/configuration.md.",
            )
        arguments[name] = _convert(hints[name], value, where=f"{where}.{name}")
    return kind(**arguments)


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        kind, check = typing.get_args(hint)
        converted = _convert(kind, value, where=where)
        if not check.is_usable(converted):
            raise ConfigurationError(f"{where} is {converted!r}", check.hint)
        return converted
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigurationError(f"{where} is {value!r}", "It must be a list, in invoke.yaml.")
        return tuple(_scalar_text(item) for item in value)
    if origin is dict and value is None:
        return {}
    if origin is not dict and not dataclasses.is_dataclass(hint):
        return _convert_scalar(hint, value, where=where)
    if not hasattr(value, "items"):
        raise ConfigurationError(f"{where} is {value!r}", "It must be a mapping of settings.")
    if origin is dict:
        return {str(key): _scalar_text(item) for key, item in value.items()}
    return _build(hint, value, where=where)


def _convert_scalar(hint: Any, value: Any, *, where: str) -> Any:
    if hint is str and not isinstance(value, str):
        value = _scalar_text(value)
    wrong = ConfigurationError(f"{where} is {value!r}", f"It must be of type {hint.__name__}.")
    if hint is bool:
        if str(value).lower() not in TRUTHS:
            raise wrong
        return TRUTHS[str(value).lower()]
    if isinstance(value, bool) or (hint is int and isinstance(value, float)):
        raise wrong  # Python would make a number of it all the same.
    try:
        return hint(value)
    except (TypeError, ValueError) as error:
        raise wrong from error


def _scalar_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
