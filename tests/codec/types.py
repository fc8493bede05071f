"""Types of every kind that may be declared, and classes that are made of them."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, NewType, TypeAlias, TypeVar, Union
from uuid import UUID

from attrs import define, field, frozen
from bson import ObjectId

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "$blue.1"


class Rank(Enum):
    FIRST = 1
    LAST = -1


class Place(Enum):
    HERE = (1, 2)
    THERE = (3, 4)


class Mixed(Enum):
    """Members of one kind are named as others are valued."""

    A = ("tuple",)
    B = "A"
    C = 1.5


class Huge(Enum):
    """Values that no database takes."""

    INT = 2**70
    TEXT = "\ud800"


class Mode(StrEnum):
    SLOW = auto()
    FAST = auto()


class OldMode(str, Enum):  # noqa: UP042 - not the same: str() of a member is its name
    SLOW = "slow"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Right(Flag):
    READ = auto()
    WRITE = auto()


class Unnamed(Flag):
    """Its members have names, what is made of them has not; and no database takes its values."""

    A = 2**70
    B = 2**71


class Odd(Enum):
    """A value that does not find its member again."""

    NOTHING = float("nan")
    SOMETHING = 1.5


@frozen
class Line:
    product: str
    price: Decimal = Decimal("9.90")
    tags: tuple[str, ...] = ()


@frozen
class SpecialLine(Line):
    discount: Decimal = Decimal(0)


@dataclasses.dataclass
class Stop:
    place: str
    at: datetime | None = None
    notes: list[str] = dataclasses.field(default_factory=list[str])


@frozen
class Node:
    """Holds others of its kind."""

    name: str
    children: list[Node] = field(factory=list["Node"])
    parent: Node | None = None


@frozen
class Box(Generic[T]):
    content: T
    others: list[T] = field(factory=list[T])


@define
class Derived:
    """One of its fields follows from the others."""

    width: int
    area: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.area = self.width**2


@define
class Private:
    _secret: int = 0

    @property
    def secret(self) -> int:
        return self._secret


OrderNumber = NewType("OrderNumber", str)
Number: TypeAlias = int | Decimal

EAST: Final = timezone(timedelta(hours=5, minutes=30))
INSTANT: Final = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
A_UUID: Final = UUID("12345678-1234-5678-1234-567812345678")
AN_OBJECT_ID: Final = ObjectId("0123456789abcdef01234567")

TEXTS: Final = [
    "",
    "$",
    "$gt",
    "$data.text",
    "a.b.c",
    "with \0 in it",
    "@type",
    "Zoë \U0001f4e6 \u2028",
    "x" * 10_000,
]
DOCUMENTS: Final[list[dict[str, Any]]] = [
    {},
    {"": ""},
    {"$gt": ""},
    {"$set": {"version": 1}},
    {"a.b": {"c.d": 1}},
    {"with \0 in it": 1},
    {"$ref": "other", "$id": 7},
    {"$ref": "other", "$id": 7, "$db": "admin"},
    {"@type": "date", "value": "2026-01-01"},
    {"@type": "dict", "value": [["a", 1]]},
    {"@type": "dict"},
    {"@type": {"@type": "@type"}},
    {"@type": "message"},
    {"value": [{"$oid": "0123456789abcdef01234567"}]},
    {"_id": {"_id": 1}, "__proto__": 1, "0": 1, "Zoë": 1},
]
DECIMALS: Final = [
    Decimal(text)
    for text in ("0", "-0", "0.00", "1.10", "-1E-30", "1E+400", "12345678901234567890.123456789")
]
DYNAMIC: Final[list[Any]] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    0.0,
    1.0,
    -1.5e300,
    float("inf"),
    b"",
    b"\0\xff",
    INSTANT,
    date(2026, 1, 2),
    date.min,
    time(1, 2, 3, 4),
    time(1, 2, tzinfo=UTC),
    timedelta(0),
    timedelta(days=-1, microseconds=1),
    A_UUID,
    AN_OBJECT_ID,
    [],
    (),
    [1, [2, (3, [Decimal(4)])]],
    ({"$a": (1, {"b.c": date(2026, 1, 1)})},),
    {1: "one", 2**40: "many", -1: "none"},
    {True: 1, None: 2, 1.5: 3, A_UUID: 4, date(2026, 1, 1): 5, (1, "a"): 6, b"x": 7},
    {"mixed": 1, 2: 3},
    *TEXTS,
    *DOCUMENTS,
    *DECIMALS,
]
"""Values for a field that says nothing about them."""

DECLARED: Final[list[tuple[Any, Any]]] = [
    *((Any, value) for value in DYNAMIC),
    (object, {"a": (1, Decimal(2))}),
    *((str, value) for value in TEXTS),
    *((dict[str, Any], value) for value in DOCUMENTS),
    *((dict[str, object], value) for value in DOCUMENTS),
    *((Decimal, value) for value in DECIMALS),
    (None, None),
    (bool, True),
    (int, 2**63 - 1),
    (int, -(2**63)),
    (float, 1.0),
    (float, float("-inf")),
    (bytes, b"\0\xff"),
    (datetime, INSTANT),
    (datetime, datetime(1, 1, 1, tzinfo=UTC)),
    (datetime, datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    (date, date(2026, 1, 2)),
    (time, time(1, 2, 3, 4)),
    (time, time(1, 2, 3, tzinfo=EAST)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (timedelta, timedelta(days=100_000, microseconds=1)),
    (UUID, A_UUID),
    (ObjectId, AN_OBJECT_ID),
    (Path, Path("/var/$HOME/a.b")),
    *((Colour, member) for member in Colour),
    *((Rank, member) for member in Rank),
    *((Place, member) for member in Place),
    *((Mixed, member) for member in Mixed),
    *((Huge, member) for member in Huge),
    *((Odd, member) for member in Odd),
    *((Unnamed, member) for member in Unnamed),
    (Mode, Mode.FAST),
    (OldMode, OldMode.SLOW),
    (Level, Level.HIGH),
    (Right, Right.READ | Right.WRITE),
    (Right, Right(0)),
    (Line, Line("tea")),
    (Line, Line("$tea", Decimal("1E+3"), ("a.b", "$c"))),
    (Stop, Stop("here", INSTANT, ["$note"])),
    (Stop, Stop("here")),
    (Node, Node("a", [Node("b", [Node("c")])], Node("d"))),
    (Box[Decimal], Box(Decimal("1.0"), [Decimal(2)])),
    (Box[list[Line]], Box([Line("tea")], [[]])),
    (Derived, Derived(3)),
    (Private, Private(5)),
    (str | None, None),
    (str | None, "a"),
    (Line | None, Line("tea")),
    (list[Line] | None, [Line("tea")]),
    (datetime | None, INSTANT),
    (Union[Annotated[int | Decimal, "a number"], str], Decimal("1.5")),  # noqa: UP007
    (Union[Annotated[int | Decimal | None, "or none"], str], None),  # noqa: UP007
    (Union[Annotated[Line | Stop | None, "a place"], str], Stop("here")),  # noqa: UP007
    (list[float] | list[int], [1, 2]),
    (Sequence[bool] | Sequence[int], [1]),
    (Box[float] | Box[int], Box(1, [2])),
    (dict[str, float] | dict[str, int], {"a": 1}),
    (list[int | None] | str, [1, None]),
    (int | str, 7),
    (int | str, "7"),
    (int | str | None, None),
    (bool | int, True),
    (bool | int, 1),
    (int | float, 1),
    (int | float, 1.0),
    (Number, Decimal("1.10")),
    (Number, 1),
    (datetime | date, INSTANT),
    (datetime | date, date(2026, 1, 2)),
    (date | time | timedelta, timedelta(1)),
    (UUID | str, A_UUID),
    (UUID | str, str(A_UUID)),
    (Line | Stop, Line("tea")),
    (Line | Stop, Stop("here")),
    (Line | SpecialLine, Line("tea")),
    (Line | SpecialLine, SpecialLine("tea", discount=Decimal("0.1"))),
    (Line | dict[str, int], {"@type": 1, "$value": 2}),
    (list[int] | str, [1]),
    (list[int] | list[str], ["a"]),
    (list[int] | dict[str, Line], {"a": Line("tea")}),
    (Mode | str, Mode.FAST),
    (Mode | str, "fast"),
    (Level | int, Level.HIGH),
    (Level | int, 2),
    (Colour | Rank | None, Rank.LAST),
    (OrderNumber | int, "o-1"),
    (Literal["auto"] | int, "auto"),
    (Literal["auto"] | int, 5),
    (Literal["a", 1, True] | None, True),
    (Literal["a", 1, True] | None, 1),
    (Literal[Colour.RED, Place.HERE], Place.HERE),
    (Literal[Colour.RED, Place.HERE], Colour.RED),
    (list[int | Decimal], [1, Decimal("1.0"), 2]),
    (list[Line | Stop], [Stop("here"), Line("tea")]),
    (list[list[tuple[int, str]]], [[(1, "a")], []]),
    (list[Any], [1, Decimal(1), (date(2026, 1, 1),), {"$a": 1}]),
    (list[object], [1, Decimal(1), (date(2026, 1, 1),), {"$a": 1}]),
    (list, [1, Decimal(1), (date(2026, 1, 1),), {"$a": 1}]),
    (tuple, (1, Decimal(1))),
    (tuple[Any, ...], (1, Decimal(1))),
    (tuple[int, ...], (1, 2)),
    (tuple[int, ...], ()),
    (tuple[int, Decimal, Line], (1, Decimal("2.0"), Line("tea"))),
    (tuple[Any, int], (Decimal(1), 2)),
    (tuple[Any], (Decimal(1),)),
    (Sequence, (Decimal(1), 2)),
    (Sequence[Any], (Decimal(1), 2)),
    (set, {1, Decimal(2)}),
    (set[Any], {date(2026, 1, 1)}),
    (set[Colour], {Colour.RED, Colour.BLUE}),
    (frozenset[UUID], frozenset([A_UUID])),
    (frozenset[str], frozenset()),
    (deque[Decimal], deque([Decimal("1.0")])),
    (deque[int], deque([1, 2], maxlen=2)),
    (deque[int] | str, deque(maxlen=0)),
    (Sequence[int], [1, 2]),
    (AbstractSet[int], {1, 2}),
    (AbstractSet[int], frozenset([1, 2])),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (tuple[()], ()),
    (Sequence[int], (1, 2)),
    (dict, {"a": Decimal(1), 5: {"b": (1,)}}),
    (dict[int, str], {1: "a", 2**40: "b"}),
    (dict[UUID, int], {A_UUID: 1}),
    (dict[Colour, int], {Colour.BLUE: 1}),
    (dict[Mode, int], {Mode.FAST: 1}),
    (dict[date, Line], {date(2026, 1, 1): Line("tea")}),
    (dict[tuple[int, str], int], {(1, "a"): 1}),
    (dict[str, dict[str, Line]], {"$a": {"b.c": Line("tea")}}),
    (dict[str, int | Decimal], {"a": Decimal(1), "b": 1}),
    (Mapping[str, int], {"$a": 1}),
    (Counter[Colour], Counter([Colour.RED, Colour.RED])),
    (defaultdict[str, int], defaultdict(int, a=1)),
    (OrderNumber, OrderNumber("o-1")),
    (Annotated[int, "more than 0"], 5),
]
"""Types as they may be declared, each with a value."""
