"""Where sagaflow wants to be, and whether it is there."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from attrs import frozen

from benchmarks.buses import planned as buses
from benchmarks.buses.bare import BARE
from benchmarks.buses.servers import SERVERS
from benchmarks.contests import EARLIER, NOW
from benchmarks.metrics import shown
from benchmarks.plan import (
    ASYNC,
    CONTENTION,
    COPIES,
    DBOS,
    ENGINE,
    FEW,
    FLOOR,
    FULL,
    FULL_TRIO,
    HUNDRED,
    IDLE_MEMORY,
    IDLE_SERVER,
    IN_MEMORY,
    INSTANCES,
    MANY,
    ONE,
    PLAIN,
    REPLAY,
    SAGA,
    STATEMACHINE,
    STRAIGHT,
    TRANSITIONS,
    WORK,
    WORK_HUNDRED,
    WORK_IDLE,
    WORK_LOOK,
    WORK_ONE,
    XSTATE_STORE,
)
from benchmarks.results import Results

Sense: TypeAlias = Literal["≥", "≤", "<"]
_SENSES: Final[dict[Sense, Callable[[float, float], bool]]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
}
_HIGHEST_RATE: Final = 100_000
_MICROSECONDS: Final = 1e6


@frozen
class Judged:
    """A target and what was measured.

    :ivar measured: None if what it takes was not measured.
    :ivar sense: how it must stand to the limit.
    """

    name: str
    sense: Sense
    limit: float | None
    measured: float | None
    unit: str

    @property
    def met(self) -> bool | None:
        """Tell whether the target is met; None if it cannot be told."""
        if self.measured is None or self.limit is None:
            return None
        return _SENSES[self.sense](self.measured, self.limit)

    @property
    def verdict(self) -> str:
        """Say whether it is met."""
        return {True: "met", False: "not met", None: "not measured"}[self.met]

    def written(self, value: float | None) -> str:
        """Return a value with its unit."""
        return "–" if value is None else f"{shown(value)}{self.unit}"

    @property
    def bound(self) -> str:
        """Return the limit as it is shown."""
        return f"{self.sense} {self.written(self.limit)}"


@frozen(kw_only=True)
class Target:
    """What is to be reached.

    :ivar name: a sentence.
    :ivar measure: finds the value in results; None if something was not measured.
    :ivar limit: what it is compared with, which may depend on what others reached.
    :ivar sense: how the value must stand to the limit.
    """

    name: str
    measure: Callable[[Results], float | None]
    limit: float | Callable[[Results], float | None]
    sense: Sense
    unit: str = ""

    def judge(self, results: Results) -> Judged:
        """Compare *results* with the target."""
        limit = self.limit(results) if callable(self.limit) else self.limit
        return Judged(self.name, self.sense, limit, self.measure(results), self.unit)


def judged(results: Results, targets: Sequence[Target] | None = None) -> list[Judged]:
    """Compare *results* with these targets, or with every one."""
    chosen = (*TARGETS, *LESS_WORK, *BUS_TARGETS) if targets is None else targets
    return [target.judge(results) for target in chosen]


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _times(
    scenario: str, slower: str, faster: str, metric: str = "wall"
) -> Callable[[Results], float | None]:
    """Return how many times as much *slower* takes as *faster* does."""

    def measure(results: Results) -> float | None:
        return _ratio(
            results.median(scenario, slower, metric), results.median(scenario, faster, metric)
        )

    return measure


def _value(scenario: str, contestant: str, metric: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(scenario, contestant, metric)


def _rate(results: Results) -> float | None:
    return _ratio(_MICROSECONDS, results.median(ENGINE, FULL, "wall"))


def _needed_rate(results: Results) -> float | None:
    by_hand = _ratio(_MICROSECONDS, results.median(ENGINE, COPIES, "wall"))
    return None if by_hand is None else min(_HIGHEST_RATE, by_hand / 3)


def _own_cpu(scenario: str, contestant: str) -> Callable[[Results], float | None]:
    """Return sagaflow's own CPU time beside that of the driver, which makes the same writes."""

    def measure(results: Results) -> float | None:
        cpu, driver = (results.median(scenario, name, "cpu") for name in (contestant, REPLAY))
        own = None if cpu is None or driver is None else cpu - driver
        return _ratio(own, driver)

    return measure


def _earlier_memory(results: Results) -> float | None:
    return results.median(WORK_IDLE, EARLIER, "memory")


def _spread(scenario: str, largest: int | None) -> Callable[[Results], float | None]:
    """Return the slowest time per event over the fastest, whatever is stored."""

    def measure(results: Results) -> float | None:
        found: list[float] = []
        for entry in results.contestants(scenario):
            stored, figure = int(entry.contestant.replace(",", "")), entry.figure("wall")
            if figure is not None and (largest is None or stored <= largest):
                found.append(figure.median)
        return max(found) / min(found) if len(found) > 1 else None

    return measure


def _writes(contestant: str) -> Target:
    return Target(
        name=f"writes for 1,000 events to one saga from one process, {contestant}",
        measure=_value(CONTENTION, contestant, "writes"),
        limit=1_000 / 8,
        sense="≤",
    )


TARGETS: Final = (
    Target(
        name="events per second in memory: 100,000, or a third of the dispatch by hand with copy "
        "and version, whichever is lower",
        measure=_rate,
        limit=_needed_rate,
        sense="≥",
        unit="/s",
    ),
    *(
        Target(
            name=f"in memory, as many times as fast as {peer}",
            measure=_times(ENGINE, peer, FULL),
            limit=times,
            sense="≥",
            unit=" ×",
        )
        for peer, times in ((TRANSITIONS, 5), (STATEMACHINE, 10), (XSTATE_STORE, 20))
    ),
    Target(
        name="trio's in-memory rate over asyncio's",
        measure=_times(ENGINE, FULL, FULL_TRIO),
        limit=0.9,
        sense="≥",
        unit=" ×",
    ),
    Target(
        name="a new saga, in times of a plain attrs instance",
        measure=_times(INSTANCES, SAGA, PLAIN, "new"),
        limit=5,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="MongoDB, 1 in flight: wall time over the floor's",
        measure=_times(ONE, ASYNC, FLOOR),
        limit=1.25,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="MongoDB, 1 in flight: round trips per event",
        measure=_value(ONE, ASYNC, "round_trips"),
        limit=2,
        sense="<",
    ),
    Target(
        name="MongoDB, 100 in flight: wall time over the floor's",
        measure=_times(HUNDRED, ASYNC, FLOOR),
        limit=1,
        sense="<",
        unit=" ×",
    ),
    Target(
        name="MongoDB, 1 in flight: sagaflow's own CPU time over the driver's",
        measure=_own_cpu(ONE, ASYNC),
        limit=0.5,
        sense="≤",
        unit=" ×",
    ),
    *(
        Target(
            name=f"as many times the durable steps per second of {DBOS}, {load}",
            measure=_times(scenario, DBOS, ASYNC),
            limit=4,
            sense="≥",
            unit=" ×",
        )
        for scenario, load in ((ONE, "1 in flight"), (HUNDRED, "100 in flight"))
    ),
    _writes(IN_MEMORY),
    _writes(ASYNC),
    Target(
        name="slowest time per event over the fastest, with 10³ to 10⁵ sagas on the server",
        measure=_spread(IDLE_SERVER, 100_000),
        limit=1.2,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="slowest time per event over the fastest, with 10³ to 10⁶ sagas in memory "
        "(10⁶ with --idle 1000000)",
        measure=_spread(IDLE_MEMORY, None),
        limit=1.2,
        sense="≤",
        unit=" ×",
    ),
)

LESS_WORK: Final = (
    Target(
        name="function calls per event, in memory, those of functions in C included",
        measure=_value(WORK, NOW, "calls"),
        limit=220,
        sense="≤",
    ),
    Target(
        name="in memory, CPU per event over the same protocol in straight lines",
        measure=_times(WORK, NOW, STRAIGHT, "cpu"),
        limit=3,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="in memory, CPU per event over the earlier commit's",
        measure=_times(WORK, NOW, EARLIER, "cpu"),
        limit=0.5,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="in memory, CPU per event over the dispatch by hand with copy and version",
        measure=_times(WORK, NOW, COPIES, "cpu"),
        limit=5,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="MongoDB, 1 in flight: own CPU per event over the driver's",
        measure=_own_cpu(WORK_ONE, NOW),
        limit=0.7,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="MongoDB, 100 in flight: CPU per event over the earlier commit's",
        measure=_times(WORK_HUNDRED, NOW, EARLIER, "cpu"),
        limit=0.8,
        sense="≤",
        unit=" ×",
    ),
    Target(
        name="memory per idle saga, no more than the earlier commit's",
        measure=_value(WORK_IDLE, NOW, "memory"),
        limit=_earlier_memory,
        sense="≤",
        unit=" KiB",
    ),
    Target(
        name="a look for due work among 100,000 pending timers in memory over one among 1,000",
        measure=_times(WORK_LOOK, MANY, FEW, "look"),
        limit=2,
        sense="≤",
        unit=" ×",
    ),
)
"""What an event is to cost beside an earlier commit, and beside what it has to cost."""

BUS_TARGETS: Final = (
    *(
        Target(
            name=f"{buses.title(bus)}: CPU per message over that of {SERVERS[bus].client} alone",
            measure=_times(buses.COST, buses.title(bus), buses.bare_title(bus), "message_cpu"),
            limit=1.5,
            sense="≤",
            unit=" ×",
        )
        for bus in BARE
    ),
    *(
        Target(
            name=f"{buses.title(bus)}: from a stored event to its command on the broker, {where}",
            measure=_value(buses.DELAY, buses.title(bus), metric),
            limit=limit,
            sense="<",
            unit=" ms",
        )
        for metric, limit, where in (
            ("beside", 5, "stored by the worker that sends it"),
            ("apart", 100, "stored by another process"),
        )
        for bus in buses.BUSES
    ),
    *(
        Target(
            name=f"{buses.title(bus)}: what two workers handle over what one does",
            measure=_value(buses.COMPUTING, buses.title(bus), "gain"),
            limit=1.5,
            sense="≥",
            unit=" ×",
        )
        for bus in SERVERS
    ),
    *(
        Target(
            name=f"{scenario}: CPU over the earlier commit's",
            measure=_times(scenario, NOW, EARLIER, "message_cpu"),
            limit=1,
            sense="≤",
            unit=" ×",
        )
        for scenario in (buses.PLAIN, buses.ASYNCHRONOUS)
    ),
)
"""What messages between processes are to cost, and how fast they are to be."""
