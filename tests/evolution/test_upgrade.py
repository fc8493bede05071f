"""What a migration is given, what it may leave, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from attrs import field, frozen
from bson.int64 import Int64

from sagaflow import NewerSchemaError, Saga, SerializationError, State, Status, initially, migrates
from sagaflow._codec.upgrade import upgraded
from sagaflow._model.record import SagaRecord
from tests.evolution.sagas import Placed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = UUID(int=1)


class Colour(Enum):
    RED = "red"


@frozen
class Line:
    article: str
    price: Decimal = Decimal(1)


class Order(Saga, schema=2):
    done = State(final=True)
    start = initially.on(Placed).goto(done)

    total: Decimal = Decimal(0)
    span: timedelta = timedelta(0)
    day: date | None = None
    at: datetime | None = None
    number: int = 0
    sure: bool = False
    id: UUID | None = None
    colour: Colour = Colour.RED
    lines: list[Line] = field(factory=list[Line])
    by_key: dict[Any, int] = field(factory=dict[Any, int])
    anything: Any = None

    @migrates(1, 2)
    @staticmethod
    def change(data: dict[str, Any]) -> dict[str, Any] | None:
        return CHANGE(data)


def nothing(_: dict[str, Any]) -> dict[str, Any] | None:
    return None


CHANGE: Callable[[dict[str, Any]], dict[str, Any] | None] = nothing


def old(data: dict[str, Any], **changes: Any) -> SagaRecord:
    """Return an order of schema 1."""
    fields: dict[str, Any] = {
        "correlation_id": "o",
        "incarnation": "i",
        "version": 1,
        "token": "t",
        "state": "done",
        "data": data,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return SagaRecord(**(fields | changes))


def migrated(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], Any],
    data: dict[str, Any],
) -> SagaRecord:
    monkeypatch.setitem(globals(), "CHANGE", change)
    return upgraded(Order, old(data))


def test_it_is_given_plain_stored_values_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    stored: dict[str, Any] = {
        "total": "9.90",
        "span": Int64(60_000_000),
        "day": "2026-01-01",
        "at": NOW.astimezone(timezone(timedelta(hours=2))),
        "number": Int64(2**40),
        "sure": True,
        "id": ID,
        "colour": "red",
        "lines": [{"article": "tea", "price": "2"}],
        "by_key": {"@type": "dict", "value": [[1, 2]]},
        "anything": {"@type": "tuple", "value": [1.5, None]},
        "gone": [1],
    }

    def change(data: dict[str, Any]) -> None:
        given.append(deepcopy(data))
        data["lines"][0]["article"] = "cup"

    after = migrated(monkeypatch, change, stored)
    (data,) = given
    assert data == stored
    assert {type(value) for value in data.values()} == {str, int, datetime, bool, UUID, list, dict}
    assert data["at"].tzinfo is UTC
    assert stored["lines"][0]["article"] == "tea"
    assert after.data["lines"] == [{"article": "cup", "price": "2"}]
    assert "gone" not in after.data
    assert (after.schema, after.data["anything"]) == (2, stored["anything"])
    assert after.stored == old(stored)


def test_it_may_leave_values_of_the_declared_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(data: dict[str, Any]) -> dict[str, Any]:
        return {
            "total": Decimal(data["number"]),
            "span": timedelta(seconds=1),
            "day": date(2026, 1, 1),
            "lines": [Line("tea")],
            "by_key": {1: 2},
            "anything": (1, Decimal(2)),
        }

    data = migrated(monkeypatch, change, {"number": 7}).data
    assert (data["total"], data["span"], data["day"]) == ("7", 1_000_000, "2026-01-01")
    assert data["lines"] == [{"article": "tea", "price": "1"}]
    assert data["by_key"] == {"@type": "dict", "value": [[1, 2]]}
    assert data["anything"] == {
        "@type": "tuple",
        "value": [1, {"@type": "Decimal", "value": "2"}],
    }
    assert data["number"] == 0


def leave_nonsense(data: dict[str, Any]) -> None:
    data["total"] = "cheap"


def miss(data: dict[str, Any]) -> None:
    data["missing"] += 1


def return_nonsense(_: dict[str, Any]) -> Any:
    return ["x"]


def leave_too_much(data: dict[str, Any]) -> None:
    data["number"] = 2**70


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (leave_nonsense, r"migration from 1 to 2: Order\.total: 'cheap' is no Decimal"),
        (leave_too_much, r"after the migration from 1 to 2: Order\.number: .* 64 bits"),
        (return_nonsense, "'change' from schema 1 to 2 returned a list"),
        (miss, "'change' from schema 1 to 2 raised KeyError: 'missing'"),
    ],
)
def test_failure_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    after = migrated(monkeypatch, change, {"total": "1"})
    assert isinstance(after.fault, SerializationError)
    assert after.fault.path == "Order 'o'"
    with pytest.raises(SerializationError, match=says):
        raise after.fault
    assert after == old({"total": "1"})
    assert after.stored is None


def test_saga_that_has_not_started_has_no_data_to_migrate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "CHANGE", miss)
    after = upgraded(Order, old({}, status=Status.EMBRYO, state=""))
    assert (after.schema, after.fault, after.data) == (2, None, {})


def test_record_of_the_present_schema_is_left_alone_and_a_newer_one_refused() -> None:
    present = old({"total": "1"}, schema=2)
    assert upgraded(Order, present) is present
    with pytest.raises(NewerSchemaError, match="schema 3, and the class here has schema 2"):
        upgraded(Order, old({}, schema=3))
