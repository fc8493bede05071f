"""One run: its processes, its faults, its end, and what is known then."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import anyio
import bson.json_util
import pymongo
from attrs import define, evolve, field, frozen

from sagaflow.mongo import EmbeddedServer, MongoRepository
from tests.chaos.books import Acceptance, Carried, Evidence, check, unfinished
from tests.chaos.errand import Errand
from tests.chaos.plan import CLIENTS, WORKERS, Fault, Kind, Plan
from tests.chaos.process import Job
from tests.reliability.fleet import Fleet, Worker
from tests.reliability.proxy import Fault as WireFault
from tests.reliability.proxy import Proxy

Document = dict[str, Any]
Process = Worker[Job]

_LOOK: Final = 0.02
_STALL: Final = 0.8
"""Seconds without progress after which the next fault comes all the same."""
_PATIENCE: Final = 20.0
"""Seconds for which everything may stand still before that is a violation; half of that where one
is expected."""
_LONGEST: Final = 120.0
_TOO_MANY: Final = 5
"""By how many times more deliveries than are called for something goes round in circles."""
_DRAINS: Final = 15.0
_ROUNDS: Final = 3
KILLS: Final = frozenset(
    {Kind.KILL_WORKER, Kind.KILL_PARTICIPANT, Kind.KILL_CLIENT, Kind.KILL_SERVER}
)


@frozen(kw_only=True)
class Result:
    """What came of a run.

    :ivar broken: every promise that was broken.
    :ivar faults: how many there were of each kind.
    :ivar evidence: what it rests on.
    """

    seed: int
    seconds: float
    broken: tuple[str, ...]
    faults: Counter[Kind]
    figures: Counter[str]

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(count for kind, count in self.faults.items() if kind in KILLS)


@define(kw_only=True)
class Run:
    """Does what a plan says, and looks at what came of it.

    :param fleet: where child processes come from.
    :param path: a new directory, which holds all that the run leaves.
    :param planted: the mistake that is planted in the library.
    """

    plan: Plan
    fleet: Fleet[Job]
    path: Path
    planted: str | None = None
    _server: EmbeddedServer = field(init=False)
    _proxy: Proxy = field(init=False)
    _workers: list[Process] = field(factory=list[Process], init=False)
    _clients: list[Process] = field(factory=list[Process], init=False)
    _participant: Process = field(init=False)
    _lives: Counter[str] = field(factory=Counter[str], init=False)
    _later: list[tuple[float, Callable[[], None]]] = field(
        factory=list[tuple[float, Callable[[], None]]], init=False
    )
    _broken: list[str] = field(factory=list[str], init=False)
    _faults: Counter[Kind] = field(factory=Counter[Kind], init=False)
    _drained: Counter[int] = field(factory=Counter[int], init=False)
    _leaving: list[tuple[Process, float]] = field(factory=list[tuple[Process, float]], init=False)
    _cuts: list[WireFault] = field(factory=list[WireFault], init=False)

    def do(self) -> Result:
        """Do it, and return what came of it."""
        began = time.monotonic()
        self._server = EmbeddedServer(self.path / "data")
        with self._server:
            port = int(self._server.uri.partition("127.0.0.1:")[2].partition("/")[0])
            self._proxy = Proxy("127.0.0.1", port)
            with self._proxy.running():
                anyio.run(self._prepare)
                try:
                    self._start_all()
                    self._meet_faults()
                    self._close()
                finally:
                    self._end_all()
            evidence = self._gather()
        broken = check(evidence)
        (self.path / "violations.txt").write_text("\n".join(broken))
        return Result(
            seed=self.plan.seed,
            seconds=time.monotonic() - began,
            broken=tuple(broken),
            faults=self._faults,
            figures=_figures(evidence, self._cuts),
        )

    async def _prepare(self) -> None:
        async with MongoRepository.connect(self._server.uri, database="chaos") as repository:
            await repository.create_indexes(Errand)

    # The processes

    def _start(self, role: str, number: int = 0) -> Process:
        name = f"{role}-{number}"
        self._lives[name] += 1
        return self.fleet.start(
            Job(
                path=str(self.path),
                role=role,
                number=number,
                life=self._lives[name],
                seed=self.plan.seed,
                errands=len(self.plan.errands),
                faults=len(self.plan.faults),
                heir=self._drained[number],
                uri=f"mongodb://127.0.0.1:{self._proxy.port}/?retryWrites=false",
                is_new=self._progress() >= self.plan.rolls_at,
                planted=self.planted,
            )
        )

    def _start_all(self) -> None:
        self._participant = self._start("participant")
        self._workers = [self._start("worker", number) for number in range(WORKERS)]
        self._clients = [self._start("client", number) for number in range(CLIENTS)]

    def _end_all(self) -> None:
        """End what still runs: all has been looked at."""
        everybody = [*self._workers, *self._clients, *(one for one, _ in self._leaving)]
        if hasattr(self, "_participant"):
            everybody.append(self._participant)
        for process in everybody:
            _signal(process, signal.SIGCONT)
            process.kill()

    def _look_after(self) -> None:
        """Do what is due, and see that nobody ends who was not asked to."""
        now = time.monotonic()
        due = [action for at, action in self._later if at <= now]
        self._later = [(at, action) for at, action in self._later if at > now]
        for action in due:
            action()
        for number, worker in enumerate(self._workers):
            if worker.code is not None:
                self._broken.append(f"worker {number} has ended by itself: {worker.code}")
                self._workers[number] = self._start("worker", number)
        for number, client in enumerate(self._clients):
            if client.code:
                self._broken.append(f"client {number} has ended by itself: {client.code}")
                self._clients[number] = self._start("client", number)
        if self._participant.code is not None:
            self._broken.append(f"the participant has ended: {self._participant.code}")
            self._participant = self._start("participant")
        for entry in tuple(self._leaving):
            process, deadline = entry
            if process.code is not None:
                self._leaving.remove(entry)
                if process.code != 0:
                    self._broken.append(f"{process.plan.name} was drained: {process.code}")
            elif now > deadline:
                self._leaving.remove(entry)
                self._broken.append(f"{process.plan.name} was asked to end and has not")
                _signal(process, signal.SIGUSR1)  # it logs where it is
                process.has_ended_within(0.5)
                process.kill()

    # The faults

    def _meet_faults(self) -> None:
        for fault in self.plan.faults:
            self._wait_for(fault.at)
            self._meet(fault)
        for number in range(WORKERS):  # whoever still runs the old code is replaced at last
            if not self._workers[number].plan.is_new:
                self._wait_for(self.plan.rolls_at)
                self._drain(number)

    def _wait_for(self, progress: int) -> None:
        known, since = -1, 0.0
        while True:
            self._look_after()
            now, reached = time.monotonic(), self._progress()
            if reached >= progress:
                return
            if reached != known:
                known, since = reached, now
            elif now - since > _STALL:
                return
            time.sleep(_LOOK)

    def _meet(self, fault: Fault) -> None:
        number = fault.target
        match fault.kind:
            case Kind.KILL_WORKER:
                self._kill_worker(number)
            case Kind.KILL_CLIENT:
                if not self._clients[number].kill():  # it has said everything
                    self._meet(evolve(fault, kind=Kind.KILL_WORKER))
                    return
                self._clients[number] = self._start("client", number)
            case Kind.KILL_PARTICIPANT:
                self._participant.kill()
                self._participant = self._start("participant")
            case Kind.KILL_SERVER:
                self._server.kill()
                time.sleep(fault.seconds)
                self._server.start()
            case Kind.PAUSE_WORKER:
                self._pause(self._workers[number], fault.seconds)
            case Kind.PAUSE_PARTICIPANT:
                self._pause(self._participant, fault.seconds)
            case Kind.DRAIN_WORKER:
                self._drain(number)
            case Kind.CUT:
                cut = WireFault(fault.harm, fault.command, number=1 + fault.target)
                self._cuts.append(self._proxy.plant(cut))
        self._faults[fault.kind] += 1

    def _pause(self, process: Process, seconds: float) -> None:
        _signal(process, signal.SIGSTOP)
        resumes = time.monotonic() + seconds
        self._later.append((resumes, lambda: _signal(process, signal.SIGCONT)))

    def _kill_worker(self, number: int) -> None:
        self._workers[number].kill()
        self._workers[number] = self._start("worker", number)

    def _drain(self, number: int) -> None:
        """Ask a worker to end, and start another one in its place at once."""
        self._ask_to_end(self._workers[number])
        self._workers[number] = self._start("worker", number)

    def _ask_to_end(self, worker: Process) -> None:
        _signal(worker, signal.SIGCONT)
        _signal(worker, signal.SIGTERM)
        self._leaving.append((worker, time.monotonic() + _DRAINS))
        self._drained[worker.plan.number] += 1

    # The end

    def _close(self) -> None:
        """Have the workers end in good order once all is at rest.

        One that has sent again what others have sent already may note it on a saga at rest; what
        it leaves is for others to see.
        """
        for _ in range(_ROUNDS):
            if not self._settle():
                return
            for worker in self._workers:
                self._ask_to_end(worker)
            self._workers = []
            while self._leaving:
                self._look_after()
                time.sleep(_LOOK)
            if not self._left():
                return
            self._workers = [self._start("worker", number) for number in range(WORKERS)]
        self._broken.append("no end: each time all workers have ended, something is left")

    def _settle(self) -> bool:
        """Wait until nothing is left to do, or nothing happens any more; tell whether it rests."""
        self._proxy.clear()
        began = since = time.monotonic()
        known: object = None
        most = _TOO_MANY * sum(errand.notes + 5 for errand in self.plan.errands)
        while True:
            self._look_after()
            talking = any(one.code is None for one in self._clients)
            waiting, left = self._unanswered(), self._left()
            if not (left or talking or waiting or self._leaving or self._later):
                return True
            now, progress = time.monotonic(), self._progress()
            seen = (progress, sorted(left), talking, waiting)
            if seen != known:
                known, since = seen, now
            patience = _PATIENCE if self.planted is None else _PATIENCE / 2
            if now - since > patience or now - began > _LONGEST or progress > most:
                self._broken.append(
                    f"no end: {len(left)} sagas are not at rest ({', '.join(left[:5])}), "
                    f"{waiting} answers are not accepted, clients are talking: {talking}"
                )
                return False
            time.sleep(5 * _LOOK)

    def _left(self) -> list[str]:
        """Return the sagas that are not at rest."""
        fields = {"status": 1, "wake": 1, "suspension": 1}
        with pymongo.MongoClient[Document](self._server.uri) as client:
            return unfinished(self.plan, client["chaos"]["Errand"].find({}, fields))

    def _progress(self) -> int:
        """Return how many commands have been delivered."""
        return self._ask("ledger.db", "SELECT max(number) FROM deliveries")

    def _unanswered(self) -> int:
        return self._ask(
            "ledger.db",
            "SELECT count(*) FROM answers WHERE message NOT IN (SELECT message FROM accepted)",
        )

    def _ask(self, name: str, query: str) -> int:
        rows = self._rows(name, query)
        return (rows[0][0] or 0) if rows else 0

    def _rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        path = self.path / name
        if not path.exists():
            return []
        database = sqlite3.connect(path, timeout=10)
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # its tables are not made yet
            return []
        finally:
            database.close()

    def _gather(self) -> Evidence:
        """Read everything, and keep a copy of the sagas beside the ledger."""
        with pymongo.MongoClient[Document](self._server.uri) as client:
            documents = list(client["chaos"]["Errand"].find())
        copy = bson.json_util.dumps(documents, indent=1)
        (self.path / "sagas.json").write_text(copy)
        names = ["ledger.db", *(f"client-{number}.db" for number in range(CLIENTS))]

        def carried(table: str) -> Iterator[Carried]:
            query = f"SELECT message, errand, command, place, undoes FROM {table} ORDER BY rowid"  # noqa: S608
            for message, errand, command, place, undoes in self._rows("ledger.db", query):
                yield Carried(
                    message=message, errand=errand, command=command, place=place, undoes=undoes
                )

        return Evidence(
            plan=self.plan,
            documents=tuple(documents),
            deliveries=tuple(carried("deliveries")),
            effects=tuple(carried("effects")),
            accepted=tuple(
                Acceptance(message=message, errand=errand, kind=kind, version=version)
                for name in names
                for message, errand, kind, version in self._rows(
                    name, "SELECT message, errand, kind, version FROM accepted"
                )
            ),
            surprises=(
                *self._broken,
                *(
                    said
                    for name in names
                    for (said,) in self._rows(name, "SELECT said FROM surprises")
                ),
            ),
        )


def _signal(process: Process, number: signal.Signals) -> None:
    if process.code is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _figures(evidence: Evidence, cuts: list[WireFault]) -> Counter[str]:
    accepted = Counter(one.kind for one in evidence.accepted)
    return Counter(
        {
            "sagas": len(evidence.documents),
            "writes": sum(document["version"] for document in evidence.documents),
            "deliveries": len(evidence.deliveries),
            "commands": len(evidence.effects),
            "redeliveries": len(evidence.deliveries) - len(evidence.effects),
            "events accepted": len(evidence.accepted) - accepted["duplicate"],
            "duplicates recognised": accepted["duplicate"],
            "connections cut": sum(cut.reached.is_set() for cut in cuts),
            **{f"sagas {document['state']}": 0 for document in evidence.documents},
        }
    ) + Counter(f"sagas {document['state']}" for document in evidence.documents)


def directory(seed: int) -> Path:
    """Make a directory for a run. Sockets need a short path, so it is a temporary one."""
    return Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
