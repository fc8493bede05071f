"""Who is measured against whom, and on how much."""

from __future__ import annotations

from typing import Final

from benchmarks.buses.planned import bus_contests
from benchmarks.contests import EARLIER, NOW, Contest, Contestant, Sizes

SUITES: Final = ("engine", "durable", "contention", "growth", "recovery", "work", "buses")

ENGINE: Final = "four transitions, no store"
INSTANCES: Final = "a new instance"
ONE: Final = "four durable steps, 1 in flight"
HUNDRED: Final = "four durable steps, 100 in flight"
CONTENTION: Final = "events for one saga, from 50 tasks"
IDLE_MEMORY: Final = "beside idle sagas, memory"
IDLE_SERVER: Final = "beside idle sagas, server"
TIMERS_MEMORY: Final = "beside pending timers, memory"
TIMERS_SERVER: Final = "beside pending timers, server"
RECOVERY: Final = "a process died with unsent messages"
WORK: Final = "an event in memory, beside an earlier commit"
WORK_ONE: Final = "four durable steps beside an earlier commit, 1 in flight"
WORK_HUNDRED: Final = "four durable steps beside an earlier commit, 100 in flight"
WORK_IDLE: Final = "an idle saga in memory, beside an earlier commit"
WORK_LOOK: Final = "a look for ten due sagas among pending timers in memory"

BARE: Final = "sagaflow, bare decisions"
FULL: Final = "sagaflow, in memory"
FULL_TRIO: Final = "sagaflow, in memory, trio"
DISPATCH: Final = "dict dispatch by hand"
COPIES: Final = "dict dispatch by hand, copy and version"
TRANSITIONS: Final = "transitions"
STATEMACHINE: Final = "python-statemachine"
XSTATE_STORE: Final = "xstate-statemachine, memory store"
SAGA: Final = "a saga"
PLAIN: Final = "a plain attrs class"
FLOOR: Final = "floor: PyMongo by hand"
REPLAY: Final = "PyMongo async alone, the same writes"
ASYNC: Final = "sagaflow, PyMongo async"
DBOS: Final = "DBOS, SQLite"
IN_MEMORY: Final = "sagaflow, memory"
STRAIGHT: Final = "the same protocol in straight lines"
FEW: Final = "1,000"
MANY: Final = "100,000"

_DRIVERS: Final = (
    (ASYNC, "pymongo-async", "asyncio"),
    ("sagaflow, Motor", "motor", "asyncio"),
    ("sagaflow, PyMongo in threads", "pymongo-threads", "asyncio"),
    ("sagaflow, PyMongo in threads, trio", "pymongo-threads", "trio"),
)


def plan(sizes: Sizes, *, postgres: str | None = None, against: str = "") -> list[Contest]:
    """Return all contests, in the order in which they are held.

    :param against: the earlier commit.
    """
    return [
        Contest("engine", ENGINE, _engine(sizes)),
        Contest("engine", INSTANCES, _instances(sizes)),
        Contest("durable", ONE, _durable(sizes, 1, 100, postgres)),
        Contest("durable", HUNDRED, _durable(sizes, 100, 300, postgres)),
        Contest("contention", CONTENTION, _contention()),
        *_growth(sizes),
        Contest("recovery", RECOVERY, _recovery(sizes)),
        *_work(sizes, f"commit {against}"),
        *bus_contests(sizes, f"commit {against}"),
    ]


def _engine(sizes: Sizes) -> tuple[Contestant, ...]:
    def sized(number: int, **options: object) -> dict[str, object]:
        return {"number": sizes.of(number), **options}

    store = "loaded and saved for each event; no deduplication, history or outbox"
    return (
        Contestant(DISPATCH, "engine", "dispatch", options=sized(20_000)),
        Contestant(
            COPIES,
            "engine",
            "dispatch_with_copy",
            options=sized(4_000),
            note="one deep copy per event; no deduplication, history or outbox",
        ),
        Contestant(
            BARE,
            "engine",
            "bare",
            options=sized(10_000),
            note="internal functions: sagaflow has no public path without a repository",
        ),
        Contestant(FULL, "work", "in_memory", options=sized(1_000, runtime="asyncio")),
        Contestant(FULL_TRIO, "work", "in_memory", options=sized(1_000, runtime="trio")),
        Contestant(
            "sagaflow, in memory, examples/orders.py",
            "engine",
            "in_memory_example",
            options=sized(1_000),
            note="also records two compensations and arms a timeout",
        ),
        Contestant(
            TRANSITIONS,
            "peers.asynchronous_transitions",
            "run",
            options=sized(1_000),
            note="AsyncMachine, no store; adding the model to the machine included",
        ),
        Contestant(
            STATEMACHINE,
            "peers.asynchronous_statemachine",
            "run",
            options=sized(300),
            note="asynchronous actions, no store; making the machine included",
        ),
        Contestant(
            "automat",
            "peers.typed_automat",
            "run",
            options=sized(5_000),
            note="synchronous, no store",
        ),
        Contestant(
            "xstate-statemachine, bare",
            "peers.xstate",
            "bare",
            options=sized(500),
            note="asynchronous interpreter, waiting for each event; starting and stopping included",
        ),
        Contestant(XSTATE_STORE, "peers.xstate", "with_store", options=sized(300), note=store),
    )


def _instances(sizes: Sizes) -> tuple[Contestant, ...]:
    number = {"number": sizes.of(100_000)}
    return (
        Contestant(PLAIN, "engine", "plain_instances", options=number),
        Contestant(SAGA, "engine", "instances", options=number),
    )


def _durable(sizes: Sizes, tasks: int, number: int, postgres: str | None) -> tuple[Contestant, ...]:
    # Fewer orders than tasks would not keep so many in flight.
    options = {"number": max(sizes.of(number), tasks), "tasks": tasks}
    return (
        Contestant(
            FLOOR,
            "durable",
            "floor",
            options=options,
            note="one find_one and one update_one per event, majority and journaled; no outbox",
            on_server=True,
        ),
        *(
            (
                Contestant(
                    REPLAY,
                    "durable",
                    "replay",
                    options={"number": options["number"]},
                    note="recorded from sagaflow, and sent again: what the driver takes of it",
                    on_server=True,
                ),
            )
            if tasks == 1
            else ()
        ),
        *(
            Contestant(
                name,
                "durable",
                "saga",
                options={**options, "driver": driver, "runtime": runtime},
                on_server=True,
            )
            for name, driver, runtime in _DRIVERS
        ),
        Contestant(
            DBOS,
            "peers.dbos_workflow",
            "on_sqlite",
            options=options,
            note="asynchronous steps in process, on a file with the settings of DBOS; no server",
        ),
        Contestant(
            "DBOS, PostgreSQL",
            "peers.dbos_workflow",
            "on_postgresql",
            options={**options, "uri": postgres or ""},
            note="on the server that --postgres names",
            absent="" if postgres else "no server was given: --postgres URI",
        ),
        Contestant(
            "sagaz, SQLite, start and end only",
            "peers.sagaz_saga",
            "on_sqlite",
            options=options,
            note="stores a saga at its start and its end only: what happened in between is lost",
        ),
    )


def _contention() -> tuple[Contestant, ...]:
    options = {"number": 1_000, "tasks": 50}
    return (
        Contestant(IN_MEMORY, "contention", "in_memory", options=options),
        *(
            Contestant(
                name,
                "contention",
                "on_server",
                options={**options, "driver": driver, "runtime": runtime},
                on_server=True,
            )
            for name, driver, runtime in _DRIVERS
        ),
    )


def _growth(sizes: Sizes) -> list[Contest]:
    idle = tuple(sorted({*sizes.stored, *([sizes.idle] if sizes.idle else [])}))
    return [
        Contest(
            "growth",
            scenario,
            tuple(
                Contestant(
                    f"{stored:,}",
                    "growth",
                    function,
                    options={"stored": stored, "number": sizes.of(number)},
                    on_server=function.endswith("server"),
                    keeps_database=function.endswith("server"),
                )
                for stored in numbers
            ),
        )
        for scenario, function, numbers, number in (
            (IDLE_MEMORY, "idle_in_memory", idle, 500),
            (IDLE_SERVER, "idle_on_server", idle, 50),
            (TIMERS_MEMORY, "timers_in_memory", sizes.stored, 500),
            (TIMERS_SERVER, "timers_on_server", sizes.stored, 100),
        )
    ]


def _recovery(sizes: Sizes) -> tuple[Contestant, ...]:
    return (
        Contestant(
            f"sagaflow, {sizes.unsent:,} sagas with a message each",
            "recovery",
            "killed",
            options={"number": sizes.unsent},
            note="the dead process had leases of 10 seconds, which others let pass first",
            on_server=True,
        ),
    )


def _work(sizes: Sizes, commit: str) -> list[Contest]:
    """Return what sagaflow is measured in beside an earlier commit of its own."""
    orders = {"number": sizes.of(1_000)}

    def both(module: str, function: str, **options: object) -> tuple[Contestant, ...]:
        on_server = "driver" in options
        return (
            Contestant(NOW, module, function, options=options, on_server=on_server),
            Contestant(
                EARLIER,
                module,
                function,
                options=options,
                note=commit,
                on_server=on_server,
                earlier=True,
            ),
        )

    def saga(number: int, tasks: int) -> tuple[Contestant, ...]:
        options = {"number": max(sizes.of(number), tasks), "tasks": tasks}
        return both("durable", "saga", driver="pymongo-async", runtime="asyncio", **options)

    replayed = {"number": sizes.of(100)}
    return [
        Contest(
            "work",
            WORK,
            (
                Contestant(STRAIGHT, "straight", "run", options=orders),
                Contestant(COPIES, "engine", "dispatch_with_copy", options=orders),
                *both("work", "counted", **orders),
            ),
        ),
        Contest(
            "work",
            WORK_ONE,
            (
                Contestant(REPLAY, "durable", "replay", options=replayed, on_server=True),
                *saga(100, 1),
            ),
        ),
        Contest("work", WORK_HUNDRED, saga(300, 100)),
        Contest(
            "work", WORK_IDLE, both("growth", "idle_in_memory", stored=20_000, number=sizes.of(100))
        ),
        Contest(
            "work",
            WORK_LOOK,
            tuple(
                Contestant(f"{stored:,}", "work", "look", options={"stored": stored})
                for stored in (1_000, 100_000)
            ),
        ),
    ]
