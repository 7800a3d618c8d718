from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from windsock.airflow.values import decode


def stored(kind: str, data: Any) -> dict[str, Any]:
    return {"__classname__": kind, "__version__": 1, "__data__": data}


ZONE = stored("builtins.tuple", ["UTC", "pendulum.tz.timezone.FixedTimezone", 1, True])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (None, None),
        ({"a": [1, None]}, {"a": [1, None]}),
        (stored("builtins.tuple", [1, 2]), (1, 2)),
        (stored("builtins.set", [1, 2]), {1, 2}),
        ([stored("builtins.tuple", [stored("builtins.tuple", [1])])], [((1,),)]),
        ({"x": stored("datetime.date", "2026-01-01")}, {"x": date(2026, 1, 1)}),
        (stored("datetime.timedelta", 1.5), timedelta(seconds=1.5)),
        (stored("decimal.Decimal", 1.5), Decimal("1.5")),
        (
            stored("datetime.datetime", {"timestamp": 1767225600.0, "tz": ZONE}),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_everyday_types_come_back_as_the_task_returned_them(value: Any, expected: Any) -> None:
    assert decode(value) == expected


def test_an_unknown_class_stays_in_its_stored_form() -> None:
    value = stored("shop.Till", {"pence": 3})
    assert decode(value) == value


def test_a_datetime_without_a_zone_stays_in_its_stored_form() -> None:
    value = stored("datetime.datetime", {"timestamp": 1767225600.0, "tz": None})
    assert decode(value) == value
