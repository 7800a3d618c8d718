from __future__ import annotations

import pytest

from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(DagError, 1), (ConfigurationError, 2), (EnvironmentFailure, 3), (DeadlineExceeded, 4)],
)
def test_every_kind_of_failure_has_its_own_exit_code(kind: type[WindsockError], code: int) -> None:
    assert kind("it broke").exit_code == code
    assert issubclass(kind, WindsockError)


def test_an_error_reads_as_what_happened_and_what_to_do() -> None:
    error = EnvironmentFailure("the disk is full", "Free some space.")
    assert str(error) == "the disk is full\nFree some space."
    assert str(EnvironmentFailure("the disk is full")) == "the disk is full"
