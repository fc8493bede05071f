"""A grammar of types: declarations at random, each with values for it.

A `Kind` is a declared type with a strategy for its values. It says whether a saga may declare it,
so that neither a type that should be refused is taken, nor one refused that can be kept.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID

import attrs
from attrs import define, field, frozen
from bson import ObjectId
from hypothesis import strategies as st

T = TypeVar("T")
U = TypeVar("U")
Strategy = st.SearchStrategy[Any]


@frozen(repr=False)
class Kind:
    """A declared type.

    :ivar values: what may be stored in it.
    :ivar hashable: whether its values may be keys.
    :ivar fits: whether a saga may declare it; None if that depends on what is beside it.
    """

    declared: Any
    values: Strategy
    hashable: bool = True
    fits: bool | None = True

    def __repr__(self) -> str:
        return f"Kind({self.declared})"


def _of(generic: Any, *arguments: Any) -> Any:
    """Return a generic class or collection of these types."""
    return generic[arguments[0] if len(arguments) == 1 else arguments]


# Types without parts


class Colour(Enum):
    RED = "red"
    BLUE = "$blue.1"
    NUMBER = 1
    RATIO = 1.5


class Place(Enum):
    HERE = (1, 2)
    FAR = 2**70


class Mode(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Right(Flag):
    READ = 1
    WRITE = 2


OrderNumber = NewType("OrderNumber", str)
Cents = NewType("Cents", int)

TEXTS: Final = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(
    ["$set", "a.b", "@type", "value", "maxlen", "\0", "slow", "red"]
)
INTS: Final = st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 2)
ZONES: Final = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
INSTANTS: Final = st.datetimes(timezones=st.just(UTC)).map(
    lambda instant: instant.replace(microsecond=instant.microsecond // 1000 * 1000, fold=0)
)
DECIMALS: Final = st.decimals(allow_nan=False, places=2) | st.sampled_from(
    [Decimal("-0.0"), Decimal("1E+9"), Decimal(1), Decimal("1.0")]
)
SPANS: Final = st.timedeltas(timedelta(days=-9999), timedelta(days=9999))
PLAIN: Final[list[Kind]] = [
    Kind(str, TEXTS),
    Kind(int, INTS),
    Kind(bool, st.booleans()),
    Kind(float, st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0])),
    Kind(bytes, st.binary(max_size=4)),
    Kind(Decimal, DECIMALS),
    Kind(date, st.dates()),
    Kind(datetime, INSTANTS),
    Kind(time, st.builds(time, st.integers(0, 23), st.integers(0, 59), tzinfo=ZONES)),
    Kind(timedelta, SPANS),
    Kind(UUID, st.uuids()),
    Kind(ObjectId, st.binary(min_size=12, max_size=12).map(ObjectId)),
    Kind(Path, st.just(Path("/var/$HOME/a.b"))),
    Kind(types.NoneType, st.none()),
    *(Kind(enum, st.sampled_from(list(enum))) for enum in (Colour, Place, Mode, Level)),
    Kind(Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0)])),
    Kind(OrderNumber, TEXTS),
    Kind(Cents, INTS),
    Kind(Literal["a", 1, True] | None, st.sampled_from(["a", 1, True, None])),
    Kind(Literal[Mode.SLOW, Place.HERE], st.sampled_from([Mode.SLOW, Place.HERE])),
]
DYNAMIC: Final = st.recursive(
    st.none() | st.booleans() | INTS | TEXTS | DECIMALS | st.dates() | INSTANTS | SPANS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS | INTS, inner, max_size=3)
    ),
    max_leaves=6,
)


# Types that cannot be kept


class Pair(NamedTuple):
    one: int
    two: str


class Options(TypedDict):
    one: int


class Ordinary:
    pass


class Prices(dict[str, int]):
    pass


@dataclasses.dataclass
class Rounded:
    cents: int
    step: dataclasses.InitVar[int] = 1


@frozen
class Box(Generic[T]):
    content: T
    others: list[T] = field(factory=list[T])


REFUSED: Final[list[Kind]] = [
    Kind(declared, st.nothing(), fits=False)
    for declared in (
        complex,
        Fraction,
        Pair,
        Options,
        Ordinary,
        Prices,
        Rounded,
        Box,
        T,
        Box[T],  # type: ignore[valid-type]
        Callable[[], int],
        type[int],
        list["Missing"],  # type: ignore[name-defined]  # noqa: F821
        str | Any,
        Literal["slow", Mode.SLOW],
    )
]


# Classes


@frozen
class Two(Generic[T, U]):
    one: T
    two: U


@frozen
class Swapped(Two[U, T], Generic[T, U]):
    """Uses the same two variables, each for the other."""

    three: T


@frozen
class Listed(Two[list[T], int], Generic[T]):
    more: T | None = None


@dataclasses.dataclass
class Held(Generic[T]):
    content: T
    count: int = dataclasses.field(init=False, default=0)


def _lengthened(given: list[Any]) -> list[Any]:
    return [*given, *given[:1]]


@define
class Worked(Generic[T]):
    """Makes something else of what it is given, each time it is made."""

    content: list[T] = field(converter=_lengthened)
    derived: tuple[T, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.derived = (*self.content, *self.content)


@frozen(cache_hash=True)
class Hashed(Generic[T]):
    content: T


def _generic(one: Kind, two: Kind) -> list[Kind]:
    both = one.hashable and two.hashable
    of_one: list[tuple[Any, Strategy, bool]] = [
        (
            _of(Box, one.declared),
            st.builds(Box, one.values, st.lists(one.values, max_size=2)),
            False,
        ),
        (
            _of(Listed, one.declared),
            st.builds(Listed, st.lists(one.values, max_size=2), INTS, one.values),
            False,
        ),
        (_of(Held, one.declared), st.builds(_counted, one.values, INTS), False),
        (_of(Worked, one.declared), st.builds(Worked, st.lists(one.values, max_size=2)), False),
        (_of(Hashed, one.declared), st.builds(Hashed, one.values), one.hashable),
    ]
    of_both: list[tuple[Any, Strategy, bool]] = [
        (_of(Two, one.declared, two.declared), st.builds(Two, one.values, two.values), both),
        (
            _of(Swapped, one.declared, two.declared),
            st.builds(Swapped, two.values, one.values, one.values),
            both,
        ),
    ]
    sub: Any = frozen(types.new_class("Sub", (of_both[1][0],)))
    of_both.append((sub, st.builds(sub, two.values, one.values, one.values), both))
    return [
        *(Kind(declared, values, keys, one.fits) for declared, values, keys in of_one),
        *(Kind(declared, values, keys, _all(one, two)) for declared, values, keys in of_both),
    ]


def _counted(content: object, count: int) -> Held[Any]:
    made = Held(content)
    made.count = count
    return made


def _made(one: Kind, two: Kind) -> list[Kind]:
    """Return an attrs class and a dataclass with fields of these types."""
    fits = _all(one, two)
    of_attrs: Any = attrs.make_class(
        "Made",
        {"one": field(type=one.declared), "_two": field(type=two.declared, kw_only=True)},
        frozen=True,
    )
    plain: Any = dataclasses.make_dataclass("Plain", [("one", one.declared), ("two", two.declared)])
    return [
        Kind(of_attrs, st.builds(of_attrs, one.values, two=two.values), False, fits),
        Kind(plain, st.builds(plain, one.values, two.values), False, fits),
    ]


def _all(*kinds: Kind) -> bool | None:
    """Tell whether what is made of all these may be declared."""
    found = [kind.fits for kind in kinds]
    return False if False in found else None if None in found else True


# Collections


def _collections(item: Kind) -> list[Kind]:
    of, values = item.declared, st.lists(item.values, max_size=3)
    bounded: Strategy = st.builds(_of(deque, Any), values, st.sampled_from([None, 0, 2]))
    made: list[tuple[Any, Strategy, bool]] = [
        (_of(list, of), values, False),
        (_of(typing.List, of), values, False),  # noqa: UP006
        (_of(MutableSequence, of), values, False),
        (_of(Sequence, of), values | values.map(tuple), False),
        (_of(tuple, of, ...), values.map(tuple), item.hashable),
        (_of(tuple, of, int), st.tuples(item.values, INTS), item.hashable),
        (_of(deque, of), bounded, False),
    ]
    if item.hashable:
        some = st.sets(item.values, max_size=3)
        made += [
            (_of(set, of), some, False),
            (_of(MutableSet, of), some, False),
            (_of(frozenset, of), some.map(frozenset), True),
            (_of(AbstractSet, of), some | some.map(frozenset), False),
            (_of(Counter, of), st.dictionaries(item.values, INTS, max_size=2).map(Counter), False),
        ]
    return [Kind(declared, found, keys, item.fits) for declared, found, keys in made]


def _mappings(key: Kind, value: Kind) -> list[Kind]:
    if not key.hashable:
        return []
    k, v = key.declared, value.declared
    items = st.dictionaries(key.values, value.values, max_size=3)
    made: list[tuple[Any, Strategy]] = [
        (_of(dict, k, v), items),
        (_of(Mapping, k, v), items),
        (_of(MutableMapping, k, v), items),
        (_of(OrderedDict, k, v), items.map(OrderedDict)),
        (
            _of(defaultdict, k, _of(list, v)),
            items.map(lambda found: defaultdict(list, _listed(found))),
        ),
    ]
    return [Kind(declared, found, False, _all(key, value)) for declared, found in made]


def _listed(found: dict[Any, Any]) -> dict[Any, list[Any]]:
    return {key: [value] for key, value in found.items()}


# Unions and other names


def _alias(name: str, declared: Any) -> Any:
    """Return what the statement `type` makes, or ``Annotated`` where there is none yet."""
    make: Any = getattr(typing, "TypeAliasType", None)
    return _of(Annotated, declared, name) if make is None else make(name, declared)


def _renamed(kind: Kind) -> list[Kind]:
    declared = (_of(Annotated, kind.declared, "said of it"), _alias("Alias", kind.declared))
    return [attrs.evolve(kind, declared=other) for other in declared]


def _union(kinds: list[Kind]) -> Kind:
    """Return a union, which may have members that cannot be told apart."""
    fits = False if any(kind.fits is False for kind in kinds) else None
    return Kind(
        _of(typing.Union, *(kind.declared for kind in kinds)),
        st.one_of([kind.values for kind in kinds]),
        all(kind.hashable for kind in kinds),
        fits,
    )


def _optional(kind: Kind) -> Kind:
    values = st.none() | kind.values
    return attrs.evolve(kind, declared=_of(typing.Optional, kind.declared), values=values)


def recursive() -> list[Kind]:
    """Return aliases that stand for something with themselves within."""
    if not hasattr(typing, "TypeAliasType"):
        return []
    names: dict[str, Any] = {}
    exec(  # noqa: S102 - a syntax error for Python 3.11
        "type Tree = int | list[Tree]\n"
        "type Json = dict[str, Json] | list[Json] | str | float | bool | None\n"
        "type Nested[T] = T | tuple[Nested[T], ...]\n",
        names,
    )
    trees = st.recursive(INTS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
    json = st.recursive(
        st.none() | st.booleans() | TEXTS | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    )
    nested = st.recursive(
        st.dates(), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6
    )
    return [
        Kind(names["Tree"], trees, hashable=False),
        Kind(names["Json"], json, hashable=False),
        Kind(names["Nested"][date], nested),
    ]


LEAVES: Final = [*PLAIN, Kind(Any, DYNAMIC, hashable=False), Kind(object, DYNAMIC, hashable=False)]
_SELDOM: Final = 12
"""Once in so many times a type is one that cannot be kept."""


@st.composite
def kinds(draw: st.DrawFn, depth: int = 3) -> Kind:
    """Return a type with its values; it is made of others, *depth* times at most."""

    def one_of(found: list[Kind]) -> Kind:
        return found[draw(st.integers(0, len(found) - 1))]

    def inner() -> Kind:
        return draw(kinds(depth - 1))

    if draw(st.integers(1, _SELDOM)) == 1:
        return one_of(REFUSED)
    match draw(st.integers(0, 8 if depth else 1)):
        case 0:
            return one_of([*LEAVES, *recursive()])
        case 1:
            return one_of(LEAVES)
        case 2 | 3:
            return one_of(_collections(inner()))
        case 4:
            return one_of(_mappings(one_of(PLAIN), inner()))
        case 5:
            return one_of(_generic(inner(), inner()))
        case 6:
            return one_of(_made(inner(), inner()))
        case 7:
            return one_of([*_renamed(kind := inner()), _optional(kind)])
        case _:
            return _union([inner() for _ in range(draw(st.integers(2, 3)))])


KINDS: Final = kinds()
