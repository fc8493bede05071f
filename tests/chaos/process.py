"""The child processes of a run. As a program it is the template that forks them."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from attrs import asdict, frozen

from sagaflow.mongo import MongoRepository
from tests.chaos.client import deliver_all
from tests.chaos.errand import stumble_like
from tests.chaos.mistakes import MISTAKES
from tests.chaos.participant import Participant
from tests.chaos.plan import plan_for
from tests.chaos.worker import Worker
from tests.reliability.template import Template


@frozen(kw_only=True)
class Job:
    """What a child is to do.

    :ivar path: the directory of the run.
    :ivar role: ``worker``, ``participant`` or ``client``.
    :ivar number: which of them.
    :ivar life: the how-manieth of its lives this is.
    :ivar heir: after how many that were asked to end: those may live at the same time.
    :ivar errands: how many sagas the plan has.
    :ivar planted: the mistake that is planted in the library.
    """

    path: str
    role: str
    number: int = 0
    life: int
    seed: int
    errands: int
    faults: int
    heir: int = 0
    uri: str = ""
    is_new: bool = False
    planted: str | None = None

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return f"{self.role}-{self.number}.{self.life}"

    @property
    def log(self) -> str:
        """The file that it logs to."""
        return str(Path(self.path) / f"{self.role}-{self.number}.log")

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, line: bytes) -> Job:
        """Return the job that *line* holds."""
        given: dict[str, Any] = json.loads(line)
        return cls(**given)


def run(job: Job) -> None:
    """Do a job in this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    logging.basicConfig(
        filename=job.log,
        level=logging.WARNING,
        format=f"%(asctime)s {job.name} %(levelname)s %(message)s",
    )
    faulthandler.register(signal.SIGUSR1, open(job.log, "a"))  # noqa: PTH123, SIM115
    path = Path(job.path)
    plan = plan_for(job.seed, errands=job.errands, faults=job.faults)
    if job.role == "client":
        deliver_all(path, plan, job.number, job.life)
    elif job.role == "participant":
        Participant(path, plan, job.life).serve()
    else:
        stumble_like(f"{job.seed} {job.name}")
        if job.planted is not None:
            MISTAKES[job.planted](pytest.MonkeyPatch(), MongoRepository)
        setting = plan.workers[job.number]
        worker = Worker(
            path=path,
            uri=job.uri,
            number=job.number,
            name=job.name,
            owner=f"worker-{job.number} {job.heir}" if setting.named else None,
            setting=setting,
            is_new=job.is_new,
        )
        anyio.run(worker.run, backend=setting.runtime)


def _end_at_once(_: int, __: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    sys.modules.setdefault("tests.chaos.process", sys.modules["__main__"])
    # Inherited by the workers, until they listen for that themselves. A signal that comes while
    # they are made would be lost, so that it is kept until then.
    signal.signal(signal.SIGTERM, _end_at_once)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Template(Job.of_json, run).serve()
