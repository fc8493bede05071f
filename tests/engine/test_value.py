"""Values that are made at once differ from those of attrs in nothing but the time it takes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from attrs import Factory, field

from sagaflow import Envelope, Outcome, OutcomeKind, Saga
from sagaflow._model.value import value


def _in_order(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(given))


@value
class Point:
    x: int
    y: int = 0
    marks: list[str] = field(factory=list[str])
    _hidden: tuple[str, ...] = field(default=(), converter=_in_order, repr=False)


@value(kw_only=True)
class Named:
    one: int
    two: str = "two"


@attrs.frozen
class Plain:
    x: int
    y: int = 0
    marks: list[str] = field(factory=list[str])
    _hidden: tuple[str, ...] = field(default=(), converter=_in_order, repr=False)


ANY_POINT: Any = Point
ANY_NAMED: Any = Named


def test_fields_are_given_by_place_or_name_as_attrs_has_it() -> None:
    assert str(inspect.signature(Point.__init__)).count("=") == 3
    assert list(inspect.signature(Point).parameters) == list(inspect.signature(Plain).parameters)
    made = ANY_POINT(1, marks=["a"], hidden=("b",))
    plain: Any = Plain
    assert attrs.asdict(made) == attrs.asdict(plain(1, marks=["a"], hidden=("b",)))
    assert repr(made) == repr(Plain(1, marks=["a"])).replace("Plain", "Point")
    assert Named(one=1) == Named(one=1, two="two")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ANY_POINT(),  # noqa: PLW0108 - it is not to be called before
        lambda: ANY_POINT(1, 2, [], (), 5),
        lambda: ANY_POINT(1, z=2),
        lambda: ANY_NAMED(1),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        make()


def test_each_value_has_collections_of_its_own() -> None:
    assert Point(1).marks is not Point(1).marks


@pytest.mark.parametrize("name", ["x", "_hidden", "new"])
def test_value_cannot_be_changed(name: str) -> None:
    made: Any = Point(1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, name, 2)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(made, name)
    assert made == Point(1)


def test_what_users_get_cannot_be_changed() -> None:
    outcome: Any = Outcome(OutcomeKind.STARTED, Saga)
    envelope: Any = Envelope(body=1, id="m", correlation_id="o", causation_id=None, headers={})
    for made, name in ((outcome, "kind"), (envelope, "id")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, name, "other")


def test_value_is_copied_changed_and_hashed_as_attrs_has_it() -> None:
    made = Named(one=1)
    assert attrs.evolve(made, two="three") == Named(one=1, two="three")
    assert copy.copy(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made  # noqa: S301
    assert hash(made) == hash(Named(one=1))
    assert made != Named(one=2)


def _positive(_: object, __: object, given: int) -> None:
    raise ValueError(given)


@pytest.mark.parametrize(
    "odd",
    [
        field(validator=_positive),
        field(default=1, init=False),
        field(default=Factory(lambda self: self, takes_self=True)),
    ],
)
def test_field_that_needs_more_than_being_set_is_refused(odd: Any) -> None:
    with pytest.raises(TypeError, match=r"Odd\.number: make it with attrs\.frozen"):
        value(type("Odd", (), {"number": odd, "__annotations__": {"number": int}}))
