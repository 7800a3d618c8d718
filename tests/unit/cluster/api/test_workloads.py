from __future__ import annotations

from typing import Any

import pytest

from windsock.cluster.api.workloads import progress_of


def deployment(**status: Any) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "generation": 2},
        "spec": {"replicas": 1},
        "status": status,
    }


READY = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}


def test_a_deployment_is_done_when_its_one_new_pod_is_ready_and_no_old_one_is_left() -> None:
    assert progress_of(deployment(**READY)).done


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1},  # its controller has not seen the change
        {"replicas": 2},  # the old pod is still there
        {"updatedReplicas": 0},
        {"readyReplicas": 0},
    ],
)
def test_until_then_it_is_not(status: dict[str, Any]) -> None:
    assert not progress_of(deployment(**{**READY, **status})).done


def test_a_job_is_done_when_it_is_complete() -> None:
    job = {"kind": "Job", "metadata": {"name": "x"}, "spec": {}, "status": {"active": 1}}
    assert not progress_of(job).done
    job["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    assert progress_of(job).done
