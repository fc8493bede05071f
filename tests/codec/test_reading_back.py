"""An instance that is read back is the one that was stored: its class does not make it anew."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs
import pytest
from attrs import define, field, frozen

from sagaflow import (
    Context,
    Orchestrator,
    Saga,
    SagaRepository,
    SerializationError,
    State,
    compensates,
    during,
    initially,
)
from sagaflow._forms.forms import form_of
from sagaflow._forms.values import UnfitValueError
from tests.codec.test_values import through_bson

T = TypeVar("T")
pytestmark = pytest.mark.anyio


def _cents(euros: Any) -> int:
    return int(euros * 100)


def _cents_of(euros: str | Decimal) -> Decimal:
    return Decimal(euros) * 100


def _louder(text: str) -> str:
    return text + "!"


def _ten_times(number: int) -> int:
    return number * 10


def _and_the_first(number: int, own: Any) -> int:
    return number + int(own.first)


@frozen
class Money:
    cents: int = field(converter=_cents)


@frozen
class Amount(Generic[T]):
    value: T
    parts: list[T] = field(factory=list[T])


@frozen
class Price(Amount[Decimal]):
    currency: str = "EUR"


@define
class Meter:
    name: str
    count: int = field(init=False, default=0)


@dataclasses.dataclass
class Total:
    parts: list[int]
    sum: int = dataclasses.field(init=False, default=0)


@frozen
class Begun:
    order: str


@frozen
class Charged(Amount[Decimal]):
    order: str = "o"
    money: Decimal = field(default=Decimal(0), converter=_cents_of)


@frozen
class Surcharged(Charged):
    """A subclass that nothing mentions."""

    reason: str = ""


@frozen
class Poked:
    order: str


@frozen
class Ended:
    order: str


class Order(Saga, correlate_by="order"):
    open = State()
    ready = State()
    closed = State(final=True)

    label: str = field(default="", converter=_louder)
    price: Price | None = None
    money: Money | None = None
    meter: Meter | None = None
    total: Total | None = None
    seen: list[Charged] = field(factory=list[Charged])
    reasons: list[str] = field(factory=list[str])

    @initially.on(Begun).goto(open)
    def begin(self, event: Begun, ctx: Context) -> None:
        self.label = "paid"
        self.price = Price(Decimal("9.90"), [Decimal("4.95")])
        self.money, self.meter, self.total = Money(2), Meter("m"), Total([])

    early = during(open).on(Charged).defer()

    @during(open).on(Poked).goto(ready)
    @during(ready).on(Poked).stay()
    def poke(self, event: Poked, ctx: Context) -> None:
        assert self.meter is not None
        assert self.total is not None
        self.meter.count += 1
        self.total.parts.append(5)
        self.total.sum += 5

    @during(ready).on(Charged).stay()
    def charge(self, event: Charged, ctx: Context) -> None:
        self.reasons.append(repr(event))

    @compensates(charge)
    def refund(self, event: Charged, ctx: Context) -> None:
        self.reasons.append(f"not {event!r}")

    end = during(ready).on(Ended).compensate().goto(closed)


async def test_saga_and_what_it_keeps_are_the_same_however_often_they_are_read(
    repository: SagaRepository,
) -> None:
    """Each step by an orchestrator of its own, as after a restart."""
    event = Surcharged(Decimal("1.10"), [Decimal(1)], money="1.10", reason="late")
    for given in (Begun("o"), event, Poked("o"), Poked("o"), Ended("o")):
        await Orchestrator([Order], repository).handle(given)
    found = await Orchestrator([Order], repository).find(Order, "o")
    assert found is not None
    saga = found.saga
    assert found.state == Order.closed
    assert (saga.label, saga.money) == ("paid!", Money(2))
    assert saga.price == Price(Decimal("9.90"), [Decimal("4.95")])
    assert saga.meter is not None
    assert saga.total is not None
    assert (saga.meter.count, saga.total.parts, saga.total.sum) == (2, [5, 5], 10)
    assert saga.reasons == [repr(event), f"not {event!r}"]


async def test_two_subclasses_of_one_name_are_refused_when_one_is_sent(
    repository: SagaRepository,
) -> None:
    """Another process could not tell which is meant."""
    other: Any = frozen(type("Surcharged", (Charged,), {"__qualname__": "Elsewhere.Surcharged"}))
    orchestrator = Orchestrator([Order], repository)
    await orchestrator.handle(Begun("o"))
    with pytest.raises(SerializationError, match="are both called 'Surcharged'"):
        await orchestrator.handle(Surcharged(Decimal(1)))
    named = Orchestrator([Order], repository, messages={"elsewhere": other, "here": Surcharged})
    await named.handle(Surcharged(Decimal(1)))


def there_and_back(declared: Any, value: object) -> Any:
    form = form_of(declared)
    return form.decode(through_bson(form.encode(value)))


def test_private_and_frozen_and_hashed_fields_are_set() -> None:
    @frozen(cache_hash=True)
    class Key:
        _number: int
        other: str = field(alias="else_")

    make: Any = Key
    key = make(number=1, else_="a")
    found = there_and_back(Key, key)
    assert found == key
    assert hash(found) == hash(key)


def test_validators_and_init_do_not_run() -> None:
    @define
    class Strict:
        number: int = field(validator=attrs.validators.lt(5))

    value = Strict(1)
    object.__setattr__(value, "number", 9)
    assert there_and_back(Strict, value).number == 9


def test_default_of_a_missing_field_is_made_as_the_class_makes_it() -> None:
    @define
    class Grown:
        first: int = 1
        second: int = field(default=2, converter=_ten_times)
        third: list[int] = field(factory=list[int])
        fourth: int = attrs.field(default=attrs.Factory(lambda self: self.first + 1, True))
        fifth: int = field(default=1, converter=attrs.Converter(_and_the_first, takes_self=True))  # type: ignore[misc]

    assert form_of(Grown).decode({"first": 5}) == Grown(first=5)
    assert form_of(Grown).decode({"first": 5}).fifth == 6


def test_field_that_was_never_set_stays_so() -> None:
    @define
    class Lazy:
        number: int
        later: int = field(init=False)

    found = there_and_back(Lazy, Lazy(1))
    assert found.number == 1
    assert not hasattr(found, "later")


def test_attribute_that_is_no_field_is_refused() -> None:
    @define(slots=False)
    class Loose:
        number: int

        @cached_property
        def double(self) -> int:
            return self.number * 2

    value: Any = Loose(1)
    assert value.double == 2
    assert there_and_back(Loose, value) == value
    value.extra = 1
    with pytest.raises(UnfitValueError, match="the attribute 'extra' of Loose is no field"):
        form_of(Loose).encode(value)


def test_field_that_was_deleted_is_told() -> None:
    value = Meter("m")
    del value.name
    with pytest.raises(AttributeError):
        form_of(Meter).encode(value)


@dataclasses.dataclass
class Rounded:
    cents: int
    step: dataclasses.InitVar[int] = 1


@frozen(order=False)
class Text(str):  # noqa: SLOT000 - attrs makes them
    """Is a str, and has a field beside that."""

    language: str = "en"


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (Rounded, r"Rounded\.step is an InitVar, which an instance does not keep: make it a field"),
        (Amount, r"Amount is generic and nothing says what ~T is: write Amount\[\.\.\.\]"),
        (Amount[T], "nothing says what ~T is: name it where the class is used"),  # type: ignore[valid-type]
        (Text, "Text is made of a builtin class that holds data beside its fields"),
        (SagaRepository, "SagaRepository"),
    ],
    ids=lambda given: getattr(given, "__name__", "") if isinstance(given, type) else "",
)
def test_class_whose_instances_could_not_be_read_is_refused(declared: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        form_of(declared)
