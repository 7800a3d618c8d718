"""Runs the Tiltfile as the Starlark it is, with Tilt's functions as recorders.

Their parameters are those of Tilt's own interface (internal/tiltfile/api of tilt-dev/tilt), so that
a call that Tilt would refuse for its arguments fails here, too.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import starlark
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]

Call = dict[str, Any]

INTERFACE = {
    "version_settings": ("", "check_updates constraint"),
    "allow_k8s_contexts": ("contexts", ""),
    "watch_file": ("file_path", ""),
    "default_registry": ("host", "host_from_cluster single_name"),
    "fall_back_on": ("paths", ""),
    "sync": ("local_path remote_path", ""),
    "run": ("cmd", "trigger echo_off"),
    "docker_build": (
        "ref context",
        (
            "build_args dockerfile dockerfile_contents live_update match_in_env_vars ignore "
            "only entrypoint target ssh network secret extra_tag container_args cache_from pull "
            "platform extra_hosts"
        ),
    ),
    "k8s_yaml": ("yaml", "allow_duplicates"),
    "k8s_resource": (
        "",
        (
            "workload new_name port_forwards extra_pod_selectors trigger_mode resource_deps "
            "objects auto_init pod_readiness links labels discovery_strategy"
        ),
    ),
    "port_forward": ("local_port", "container_port name link_path host"),
    "link": ("url name", ""),
    "local_resource": (
        "name cmd",
        (
            "deps trigger_mode resource_deps ignore auto_init serve_cmd cmd_bat serve_cmd_bat "
            "allow_parallel links labels env serve_env readiness_probe dir serve_dir"
        ),
    ),
    "probe": (
        "",
        (
            "initial_delay_secs timeout_secs period_secs success_threshold failure_threshold exec "
            "http_get tcp_socket"
        ),
    ),
    "exec_action": ("command", ""),
    "ci_settings": ("", "k8s_grace_period timeout readiness_timeout"),
    "update_settings": (
        "",
        (
            "max_parallel_updates k8s_upsert_timeout_secs suppress_unused_image_warnings "
            "k8s_server_side_apply"
        ),
    ),
}
"""Function of Tilt → its required parameters, its others."""

NOT_GIVEN = ()
"""Stands for the default of a parameter: false, empty."""


@dataclass
class Tilt:
    """One run of the Tiltfile.

    Args:
        context: The kube context that Tilt would use.
        subcommand: `up`, `ci` or `down`.
        local: Runs a command of the Tiltfile with some variables; gives its output.
        folder: Of the files that it reads.
        variables: Of the environment.
    """

    context: str
    local: Callable[[list[str], Mapping[str, str]], str]
    subcommand: str = "up"
    folder: Path = ROOT
    variables: Mapping[str, str] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)

    def run(self) -> Tilt:
        """Run the Tiltfile; `calls` holds what it called."""
        extensions = [starlark.LibraryExtension.StructType]
        known = starlark.Globals.extended_by(extensions)
        dialect = starlark.Dialect.extended()
        module = starlark.Module()
        main = str(self.folder)
        prelude = f"config = struct(tilt_subcommand={self.subcommand!r}, main_dir={main!r})\n"
        prelude += "os = struct(getenv=getenv, path=struct(join=join))"
        module.add_callable("getenv", lambda name, default=None: self.variables.get(name, default))
        module.add_callable("join", lambda *parts: str(Path(*parts)))
        starlark.eval(module, starlark.parse("prelude", prelude, dialect), known)
        for name in ("TRIGGER_MODE_AUTO", "TRIGGER_MODE_MANUAL"):
            module[name] = name
        for name, function in self._functions().items():
            module.add_callable(name, function)
        text = (self.folder / "Tiltfile").read_text(encoding="utf-8")
        starlark.eval(module, starlark.parse("Tiltfile", text, dialect), known)
        return self

    def named(self, function: str, name: str) -> Call:
        """The arguments of the one call that configures `name`."""
        key = {"docker_build": "ref", "k8s_resource": "workload"}.get(function, "name")
        [found] = [call for call in self.calls.get(function, []) if call[key] == name]
        return found

    def _functions(self) -> dict[str, Callable[..., Any]]:
        answers: dict[str, Callable[..., Any]] = {
            "read_yaml": self._read_yaml,
            "k8s_context": lambda: self.context,
            "local": self._local,
            "decode_yaml_stream": _documents,
            "fail": self._fail,
        }
        recorders = {name: self._recorder(name, *INTERFACE[name]) for name in INTERFACE}
        return {**recorders, **answers}

    def _recorder(self, name: str, required: str, others: str) -> Callable[..., Call]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(word, kind) for word in required.split()]
        parameters += [inspect.Parameter(word, kind, default=NOT_GIVEN) for word in others.split()]
        signature = inspect.Signature(parameters)

        def record(*arguments: Any, **options: Any) -> Call:
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            call = dict(bound.arguments)
            self.calls.setdefault(name, []).append(call)
            return {"function": name, **call}

        return record

    def _read_yaml(self, path: str, default: Any = None) -> Any:
        file = self.folder / path
        return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else default

    def _local(
        self, command: list[str], quiet: bool = False, echo_off: bool = False, env: Any = None
    ) -> str:
        del quiet, echo_off
        return self.local(command, env or {})

    @staticmethod
    def _fail(msg: str) -> None:
        raise ValueError(msg)


def _documents(text: str) -> list[Any]:
    return [item for item in yaml.safe_load_all(text) if item]
