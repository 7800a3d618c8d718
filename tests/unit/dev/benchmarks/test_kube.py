from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dev.benchmarks import pods
from dev.benchmarks.kube import CPU, REQUIREMENTS, STEP, TARGETS, Samples
from dev.benchmarks.pods import WorkerPods
from dev.benchmarks.report import OURS
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAID = """\
target: context (context lab, namespace bench)
✓ cluster: Kubernetes 1.34.0, context (context lab, namespace bench) (0.2 s)
✓ images: unchanged (0.0 s)
✓ rolled out (12.4 s)
✓ Airflow: 3.3.2 on http://127.0.0.1:8080 (1.1 s)
✓ 2 DAGs parsed
"""


def test_the_steps_of_up_are_read_from_what_it_says() -> None:
    found = [(step["title"], step["seconds"]) for step in STEP.finditer(SAID)]
    assert found == [
        ("cluster", "0.2"),
        ("images", "0.0"),
        ("rolled out", "12.4"),
        ("Airflow", "1.1"),
    ]


def test_a_failed_sample_is_in_the_report_and_only_ours_have_targets() -> None:
    samples = Samples()
    samples.take(CPU, 1.0)
    samples.take(CPU, None)
    samples.failures["trigger"] = ["not within 3 s"]
    [cpu, trigger] = samples.measurements(OURS)
    assert (cpu.samples, cpu.unit, cpu.target) == ((1.0,), "CPU-s", TARGETS[CPU])
    assert (trigger.samples, trigger.failures) == ((), ("not within 3 s",))
    assert all(item.target is None for item in samples.measurements("plain"))


def test_the_requirement_that_changes_is_not_in_airflows_lock(pytestconfig: pytest.Config) -> None:
    lock = (pytestconfig.rootpath / "docker" / "requirements.lock").read_text()
    [name] = {line.partition("==")[0] for line in REQUIREMENTS}
    assert f"\n{name}==" not in lock


class Stream:
    """Lines of a watch, until it is closed."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __iter__(self) -> Iterator[bytes]:
        return iter([line.encode() for line in self.lines])

    def close(self) -> None:
        """As a stream of the API."""


class FakeCluster:
    """One watch of pods."""

    def __init__(self, *events: tuple[str, dict[str, Any]]) -> None:
        lines = [json.dumps({"type": kind, "object": item}) for kind, item in events]
        self.stream = Stream(lines)

    def listing(self, *_: str, **__: str) -> tuple[list[Any], str]:
        return [], "1"

    def watch(self, *_: Any, **__: Any) -> Stream:
        return self.stream


def pod(**state: dict[str, str]) -> dict[str, Any]:
    statuses = [{"state": state}] if state else []
    return {"metadata": {"uid": "u"}, "status": {"containerStatuses": statuses}}


def watched(*events: tuple[str, dict[str, Any]]) -> WorkerPods:
    return WorkerPods(FakeCluster(*events))  # type: ignore[arg-type] # all that it takes


def test_a_pods_moments_are_those_at_which_the_cluster_told_of_them() -> None:
    taken = watched()
    for now, (kind, item) in enumerate(
        [
            ("ADDED", pod()),
            ("MODIFIED", pod(waiting={"reason": "ContainerCreating"})),
            ("MODIFIED", pod(running={"startedAt": "x"})),
            ("MODIFIED", pod(terminated={"exitCode": "0"})),
            ("DELETED", pod(terminated={"exitCode": "0"})),
        ]
    ):
        taken._take(kind, item, float(now))
    [found] = taken.since(0.0, count=1, timeout=1)
    assert (found.created, found.running, found.gone) == (0.0, 2.0, 4.0)
    with pytest.raises(DeadlineExceeded, match="of 2 pods 1 were made and 1 are gone"):
        taken.since(0.0, count=2, timeout=0.01)


def test_a_watch_that_ends_is_a_failure_and_no_long_wait() -> None:
    gone = {"message": "too old resource version"}
    with (
        watched(("ERROR", gone)) as taken,
        pytest.raises(EnvironmentFailure, match="too old resource version"),
    ):
        taken.since(0.0, count=1, timeout=30)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cpuacct/kubepods/burstable/pod1-2/cpuacct.usage", "1500000000\n"),
        ("cpuacct/kubepods/pod1-2/cpuacct.usage", "1500000000\n"),
        (
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cpu.stat",
            "usage_usec 1500000\nuser_usec 1\n",
        ),
    ],
)
def test_the_cpu_time_of_a_pod_is_found_with_every_kind_of_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    monkeypatch.setattr(pods, "CGROUPS", tmp_path)
    found = pods._usage_file("1-2")
    assert found == file
    assert pods._cpu_seconds(file) == 1.5
    assert pods._usage_file("3-4") is None
