"""A client: delivers its events until each is accepted, and notes what it was told."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Final

from tests.chaos.plan import WORKERS, Plan, Said
from tests.chaos.wire import ACCEPTANCES, Paper, Sender

_THREADS: Final = 4


def deliver_all(path: Path, plan: Plan, number: int, life: int) -> None:
    """Deliver what the client with this *number* has to say, and return then."""
    chance = random.Random(f"client {plan.seed} {number} {life}")
    with Paper(path / f"client-{number}.db", ACCEPTANCES) as paper:
        known = {message for (message,) in paper.read("SELECT message FROM accepted")}
        rest = iter([said for said in plan.clients[number] if said.id not in known])
        sender, lock = Sender(path, paper, WORKERS), threading.Lock()

        def deliver() -> None:
            while True:
                with lock:
                    said = next(rest, None)
                if said is None:
                    return
                _deliver(sender, said, chance)

        threads = [threading.Thread(target=deliver) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _deliver(sender: Sender, said: Said, chance: random.Random) -> None:
    what = {"id": said.id, "event": said.event, "fields": said.fields}
    while not sender.deliver(
        what, said.errand, chance.sample(range(WORKERS), 2 if said.twice else 1)
    ):
        time.sleep(0.02)
