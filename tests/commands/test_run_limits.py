"""What a subscription allows holds for all processes of a worker together."""

from __future__ import annotations

from typing import Any

from tests.commands.workers import AT_WORK, Workers, until_found
from tests.commands.working import Charge

ORDERS = 12


def test_one_handler_at_a_time_also_after_a_process_was_killed_in_it(workers: Workers) -> None:
    worker = workers.begin("working:alone", "--owner", "w", "--processes", "2")
    worker.until(AT_WORK)
    worker.until(AT_WORK)
    workers.send(*(Charge(f"o-{number}") for number in range(ORDERS)))

    def all_ended() -> list[dict[str, Any]] | None:
        found = list(workers.notes.find({"note": "ended"}))
        return found if len({one["order"] for one in found}) == ORDERS else None

    ended = until_found(all_ended)
    killed = workers.notes.find_one({"note": "begun"})
    assert killed["pid"] not in {one["pid"] for one in ended}
    assert list(workers.notes.find({"note": "overlap"})) == []
    assert worker.stop() == 0
