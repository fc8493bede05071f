"""Which buses are measured, in what, and beside whom."""

from __future__ import annotations

from typing import Final

from benchmarks.buses.bare import BARE
from benchmarks.buses.servers import SERVERS
from benchmarks.contests import EARLIER, NOW, Contest, Contestant, Sizes

MONGODB: Final = "mongodb"
BUSES: Final = (MONGODB, *SERVERS)
"""The buses between processes, by the name of what carries them."""

ORDERS: Final = "orders over a bus, by one worker process and by two"
COMPUTING: Final = "messages that take a processor some milliseconds each"
COST: Final = "a message, published, confirmed, handled and acknowledged by one process"
DELAY: Final = "from a stored event to its command on the broker"
PLAIN: Final = "a message on a MemoryBus to a plain function"
ASYNCHRONOUS: Final = "a message on a MemoryBus to a coroutine function"

_MOST_RUNS: Final = 3
"""A run starts several processes: three of each are some minutes already."""


def title(bus: str) -> str:
    """Return what a bus is called in the tables."""
    return "MongoBus" if bus == MONGODB else SERVERS[bus].bus


def bare_title(bus: str) -> str:
    """Return what the client of a broker alone is called in the tables."""
    return f"{SERVERS[bus].client} alone, for {title(bus)}"


def bus_contests(sizes: Sizes, commit: str) -> list[Contest]:
    """Return what buses are measured in.

    :param commit: what the earlier commit is called.
    """
    return [
        Contest(
            "buses",
            ORDERS,
            (
                Contestant(
                    "MemoryBus",
                    "buses.throughput",
                    "orders_in_memory",
                    options={"number": sizes.of(100)},
                    note="one process, which it cannot leave",
                    on_server=True,
                ),
                *(_on(bus, "throughput", "orders", sizes.of(100)) for bus in BUSES),
            ),
            _MOST_RUNS,
        ),
        Contest(
            "buses",
            COMPUTING,
            tuple(
                _on(
                    bus,
                    "throughput",
                    "computing",
                    sizes.of(150),
                    on_server=bus == MONGODB,
                    note="its server is written in Python, and takes part of both cores"
                    if bus == MONGODB
                    else "",
                )
                for bus in BUSES
            ),
            _MOST_RUNS,
        ),
        Contest("buses", COST, _cost(sizes), _MOST_RUNS),
        Contest(
            "buses",
            DELAY,
            tuple(_on(bus, "delay", "delay", sizes.of(30)) for bus in BUSES),
            _MOST_RUNS,
        ),
        *(
            Contest(
                "buses",
                scenario,
                (
                    Contestant(NOW, "buses.in_memory", function, options=_number(sizes, 20_000)),
                    Contestant(
                        EARLIER,
                        "buses.in_memory",
                        function,
                        options=_number(sizes, 20_000),
                        note=commit,
                        earlier=True,
                    ),
                ),
                _MOST_RUNS,
            )
            for scenario, function in ((PLAIN, "plain"), (ASYNCHRONOUS, "asynchronous"))
        ),
    ]


def _cost(sizes: Sizes) -> tuple[Contestant, ...]:
    found = [_on(MONGODB, "cost", "by_bus", sizes.of(200))]
    for bus in SERVERS:
        found.append(_on(bus, "cost", "by_bus", sizes.of(1_000), on_server=False))
        if bus in BARE:
            found.append(
                Contestant(
                    bare_title(bus),
                    "buses.cost",
                    "by_client",
                    options={"bus": bus, **_number(sizes, 1_000)},
                    note="the same bytes, confirmed and acknowledged one by one",
                    broker=bus,
                )
            )
    return tuple(found)


def _on(
    bus: str, module: str, function: str, number: int, *, on_server: bool = True, note: str = ""
) -> Contestant:
    return Contestant(
        title(bus),
        f"buses.{module}",
        function,
        options={"bus": bus, "number": number},
        note=note or ("" if bus == MONGODB else SERVERS[bus].note),
        on_server=on_server,
        broker="" if bus == MONGODB else bus,
    )


def _number(sizes: Sizes, number: int) -> dict[str, object]:
    return {"number": sizes.of(number)}
