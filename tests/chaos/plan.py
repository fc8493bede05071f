"""What is done in one run: a function of its seed, and of nothing else."""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

from attrs import asdict, frozen

from tests.chaos.errand import Cancelled, Noted, Placed
from tests.reliability.proxy import Harm

CLIENTS: Final = 2
WORKERS: Final = 4
_SETUPS: Final = (
    ("motor", "asyncio"),
    ("pymongo-async", "asyncio"),
    ("pymongo-threads", "asyncio"),
    ("pymongo-threads", "trio"),
)


class Fate(Enum):
    """What the participant makes of an errand."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    OVERDUE = "overdue"
    """It is never delivered, so that a timer ends it."""


class Kind(Enum):
    """A fault."""

    KILL_WORKER = "kill worker"
    KILL_PARTICIPANT = "kill participant"
    KILL_CLIENT = "kill client"
    KILL_SERVER = "kill server"
    PAUSE_WORKER = "pause worker"
    """Stopped for longer than its lease, and let go."""
    PAUSE_PARTICIPANT = "pause participant"
    """Stopped for as long as a worker waits for its answer, or longer."""
    DRAIN_WORKER = "drain worker"
    """Asked to end in good order."""
    CUT = "cut connection"


_MIX: Final = (
    *[Kind.KILL_WORKER] * 14,
    *[Kind.KILL_PARTICIPANT] * 3,
    *[Kind.KILL_CLIENT] * 3,
    Kind.KILL_SERVER,
    *[Kind.PAUSE_WORKER] * 2,
    Kind.PAUSE_PARTICIPANT,
    *[Kind.DRAIN_WORKER] * 2,
    *[Kind.CUT] * 4,
)
_HARMS: Final = (
    Harm.CUT_BEFORE,
    Harm.CUT_WITHIN_REQUEST,
    Harm.CUT_AFTER,
    Harm.CUT_WITHIN_ANSWER,
)


@frozen(kw_only=True)
class Errands:
    """One saga that is to be.

    :ivar notes: how many notes it is sent.
    """

    id: str
    fate: Fate
    notes: int
    cancelled: bool


@frozen(kw_only=True)
class Said:
    """An event that a client delivers until it is accepted.

    :ivar twice: to two workers at the same time.
    """

    id: str
    errand: str
    event: str
    fields: dict[str, object]
    twice: bool


@frozen(kw_only=True)
class Setting:
    """How one worker runs.

    :ivar named: whether it has a name under which it takes its own leases back.
    :ivar ahead: by how many seconds its clock is ahead; behind, if negative.
    :ivar jump: by how many seconds its clock jumps now and then, forth and back.
    """

    driver: str
    runtime: str
    named: bool = False
    ahead: float = 0
    jump: float = 0


@frozen(kw_only=True)
class Fault:
    """Something that goes wrong.

    :ivar at: once the participant has been delivered so many commands.
    :ivar target: which of the workers or clients.
    :ivar seconds: for how long.
    :ivar harm: what happens to a connection.
    :ivar command: at which request to the server.
    """

    at: int
    kind: Kind
    target: int = 0
    seconds: float = 0
    harm: Harm = Harm.CUT_BEFORE
    command: str = "update"

    def __str__(self) -> str:
        match self.kind:
            case Kind.CUT:
                about = f"{self.harm.value} of an {self.command}"
            case Kind.KILL_SERVER | Kind.PAUSE_PARTICIPANT:
                about = f"for {self.seconds:.1f} s"
            case Kind.PAUSE_WORKER:
                about = f"{self.target} for {self.seconds:.1f} s"
            case Kind.KILL_PARTICIPANT:
                about = ""
            case _:
                about = str(self.target)
        return f"{self.kind.value} {about} at {self.at}".replace("  ", " ")


@frozen(kw_only=True)
class Plan:
    """What is done in one run.

    :ivar clients: what each client delivers, in this order.
    :ivar rolls_at: once so many commands were delivered, whoever starts runs the new code.
    """

    seed: int
    errands: tuple[Errands, ...]
    clients: tuple[tuple[Said, ...], ...]
    workers: tuple[Setting, ...]
    faults: tuple[Fault, ...]
    rolls_at: int


def plan_for(seed: int, *, errands: int = 40, faults: int = 40) -> Plan:
    """Return the plan of *seed*, with so many sagas and faults."""
    chance = random.Random(f"chaos {seed}")
    planned = tuple(
        Errands(
            id=f"e{number}",
            fate=chance.choices((Fate.DELIVERED, Fate.REFUSED, Fate.OVERDUE), (6, 2, 2))[0],
            notes=chance.randint(1, 5),
            cancelled=chance.random() < 0.15,
        )
        for number in range(errands)
    )
    expected = sum(errand.notes + 5 for errand in planned)
    return Plan(
        seed=seed,
        errands=planned,
        clients=_said(planned, chance),
        workers=_settings(chance),
        faults=tuple(
            sorted(
                (_fault(chance, chance.randrange(1, expected)) for _ in range(faults)),
                key=lambda fault: fault.at,
            )
        ),
        rolls_at=chance.randrange(expected // 4, expected // 2),
    )


def _said(errands: tuple[Errands, ...], chance: random.Random) -> tuple[tuple[Said, ...], ...]:
    """Return what each client says: out of order, and some of it twice."""
    said: list[tuple[float, Said]] = []
    for number, errand in enumerate(errands):
        events: list[tuple[str, object]] = [
            (f"{errand.id} placed", Placed(errand.id, errand.notes)),
            *((f"{errand.id} note {note}", Noted(errand.id)) for note in range(errand.notes)),
        ]
        if errand.cancelled:
            events.append((f"{errand.id} cancelled", Cancelled(errand.id)))
        for message_id, event in events:
            one = Said(
                id=message_id,
                errand=errand.id,
                event=type(event).__name__,
                fields=asdict(event),  # type: ignore[arg-type]
                twice=chance.random() < 0.3,
            )
            said.append((number + chance.uniform(0, 4), one))
            if chance.random() < 0.1:  # once more, later
                said.append((number + chance.uniform(2, 8), one))
    said.sort(key=lambda entry: entry[0])
    clients: list[list[Said]] = [[] for _ in range(CLIENTS)]
    for _, one in said:
        chance.choice(clients).append(one)
    return tuple(tuple(client) for client in clients)


def _settings(chance: random.Random) -> tuple[Setting, ...]:
    clocks = [
        (0.0, 0.0),
        (chance.uniform(0.2, 1.5), 0.0),
        (-chance.uniform(0.2, 1.5), 0.0),
        (0.0, chance.uniform(0.5, 1.5)),
    ]
    chance.shuffle(clocks)
    names = [True, True, False, False]
    chance.shuffle(names)
    return tuple(
        Setting(driver=driver, runtime=runtime, named=named, ahead=ahead, jump=jump)
        for (driver, runtime), (ahead, jump), named in zip(_SETUPS, clocks, names, strict=True)
    )


def _fault(chance: random.Random, at: int) -> Fault:
    kind = chance.choice(_MIX)
    targets = CLIENTS if kind is Kind.KILL_CLIENT else WORKERS
    return Fault(
        at=at,
        kind=kind,
        target=chance.randrange(targets),
        seconds=chance.uniform(0.0, 0.3) if kind is Kind.KILL_SERVER else chance.uniform(0.7, 1.2),
        harm=chance.choice(_HARMS),
        command=chance.choice(("update", "insert", "update", "find")),
    )
