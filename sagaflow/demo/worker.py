"""The process that does the work of ``sagaflow demo --crash``, until it is killed.

The process reads its job from one line of its input, and reports its progress in lines of its
output; all of them are JSON. It ends when its parent does, for whatever reason: its input is closed
then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, BinaryIO, TextIO

import anyio
from attrs import asdict, frozen

from sagaflow._concurrency.groups import cause_of
from sagaflow._model.errors import SagaflowError
from sagaflow.demo.books import Ledger
from sagaflow.demo.plan import Order, plan
from sagaflow.demo.shop import Shop
from sagaflow.mongo import MongoRepository

Tell = Callable[[str, object], None]
"""Sends one report to the parent: its kind and its content."""


@frozen(kw_only=True)
class Job:
    """What a process is to do.

    :ivar uri: where the server is; may hold credentials, so that it is not an argument.
    :ivar waiting: the ids of the orders to place now.
    :ivar last: end when all is done; otherwise wait for the end.
    """

    uri: str
    options: dict[str, Any]
    database: str
    runtime: str
    orders: int
    failures: float
    seed: int
    concurrency: int
    waiting: tuple[str, ...] = ()
    last: bool = False

    def to_json(self) -> str:
        """Return the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, line: bytes) -> Job:
        """Return the job that *line* says."""
        given: dict[str, Any] = json.loads(line)
        given["waiting"] = tuple(given["waiting"])
        return cls(**given)


async def work(job: Job, tell: Tell) -> None:
    """Finish what the process before has left, and place the orders that are waiting."""

    def placed(order: Order) -> None:
        tell("placed", order.order_id)

    planned = plan(job.orders, job.failures, job.seed)
    waiting = set(job.waiting)
    async with (
        MongoRepository.connect(job.uri, database=job.database, **job.options) as repository,
        Shop.open(repository, Ledger(repository), planned) as shop,
    ):
        tell("ready", None)
        tell("leftovers", await shop.catch_up())
        orders = [order for order in planned if order.order_id in waiting]
        await shop.place(orders, job.concurrency, placed)
        if not job.last:
            await anyio.sleep_forever()
        await shop.settle()
    tell("done", None)


def main(source: BinaryIO, sink: TextIO, end: Callable[[int], object] = os._exit) -> int:
    """Do the job that is in *source*; return the exit status.

    :param end: what to do with this process when *source* is closed.
    """
    line = source.readline()
    if not line.endswith(b"\n"):
        return 1  # the parent has ended while it wrote
    job = Job.of_json(line)
    # Not read through `source`: a thread that waits within it would keep the process from ending.
    watch = Thread(target=_end_with_parent, args=(source.fileno(), end), daemon=True)
    watch.start()

    def tell(kind: str, what: object) -> None:
        try:
            print(json.dumps([kind, what]), file=sink, flush=True)
        except BrokenPipeError:
            end(1)

    log = _Log(tell)
    logger = logging.getLogger("sagaflow")
    logger.addHandler(log)
    try:
        anyio.run(work, job, tell, backend=job.runtime)
    except SagaflowError as exc:
        tell("error", str(exc))
        return 1
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if not isinstance(cause, SagaflowError):
            raise
        tell("error", str(cause))
        return 1
    finally:
        logger.removeHandler(log)
    return 0


class _Log(logging.Handler):
    """Hands every log record to the parent, which logs it."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("log", [record.levelno, record.getMessage()])


def _end_with_parent(descriptor: int, end: Callable[[int], object]) -> None:
    os.read(descriptor, 1)  # the parent says nothing more
    end(1)


if __name__ == "__main__":
    raise SystemExit(main(sys.stdin.buffer, sys.stdout))
