"""``retry``, ``resume``, ``skip`` and ``cancel``: one write each; the workers do what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve

from sagaflow import MemoryBus, Orchestrator, Status
from sagaflow._model.record import Lease, Suspension, SuspensionReason
from sagaflow.mongo import MongoRepository
from tests.commands import sagas
from tests.commands.support import (
    AGO,
    LOAN,
    Stored,
    failed_event,
    good,
    loan,
    opened,
    outgoing,
    refused,
)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    sagas.RAN.clear()


def work(stored: Stored) -> list[str]:
    """Be a worker that runs; return what it sent."""
    sent: list[str] = []

    async def run() -> None:
        bus = MemoryBus()
        bus.subscribe(sagas.Remind, lambda message: sent.append(message.number))
        async with MongoRepository.connect(stored.uri, database=stored.database) as repository:
            await Orchestrator([sagas.Loan], repository, bus=bus).run_due()

    anyio.run(run)
    return sent


@pytest.mark.parametrize("action", ["retry", "resume"])
def test_what_failed_is_put_back_to_work_and_not_done_here(action: str, stored: Stored) -> None:
    stored.put(failed_event())
    change, follows = good(stored.run(action, LOAN, "l-3", "--yes"))
    assert change == f"Loan l-3: {action}: suspended -> active in open, version 1 -> 2"
    assert follows == "the running workers go on with it within seconds; see sagaflow show"
    assert sagas.RAN == []
    document = stored.get("l-3")
    assert document["status"] == "active"
    assert document["history"][-1]["step"] == action
    assert "lease" not in document, "workers need not wait for this process"
    work(stored)
    assert sagas.RAN == ["hold"]
    assert stored.get("l-3")["state"] == "held"


def test_what_failed_is_left_out(stored: Stored) -> None:
    stored.put(failed_event())
    change, follows = good(stored.run("skip", LOAN, "l-3", "--yes"))
    assert change == "Loan l-3: skip: suspended -> active in open, version 1 -> 2"
    assert follows == "there is nothing to do for it now; see sagaflow explain"
    assert stored.get("l-3")["parked"] == []
    assert sagas.RAN == []


def test_a_message_that_is_left_out_is_not_sent(stored: Stored) -> None:
    suspension = Suspension(
        reason=SuspensionReason.MESSAGE, subject="i-1-1", error="nobody", since=AGO
    )
    stored.put(
        loan(
            status=Status.SUSPENDED,
            suspension=suspension,
            outbox=(outgoing(1), outgoing(2)),
            sequence=2,
        )
    )
    good(stored.run("skip", LOAN, "l-1", "--yes"))
    assert [message["id"] for message in stored.get("l-1")["outbox"]] == ["i-1-2"]
    assert work(stored) == ["l-1"]


def test_a_saga_is_cancelled_and_undone_by_the_workers(stored: Stored) -> None:
    stored.put(loan())
    change, follows = good(stored.run("cancel", LOAN, "l-1", "--state", "refused", "--yes"))
    assert change == "Loan l-1: cancel: active -> compensating in held, version 2 -> 3"
    assert follows.startswith("the running workers go on with it")
    assert sagas.RAN == []
    assert stored.get("l-1")["outbox"] == []
    assert work(stored) == ["l-1"]
    assert sagas.RAN == ["release"]
    assert stored.get("l-1")["state"] == "refused"


def test_a_saga_with_nothing_to_undo_ends_at_once(stored: Stored) -> None:
    stored.put(opened())
    change, follows = good(stored.run("cancel", LOAN, "l-2", "--yes"))
    assert change == "Loan l-2: cancel: active -> finished in open, version 1 -> 2"
    assert follows == "it has ended, and nothing is left to do"


def cancelled_with(stored: Stored, **given: Any) -> list[str]:
    """Return what is said of a saga with three messages that is cancelled, but for the change."""
    fields: dict[str, Any] = {
        "outbox": (outgoing(1), evolve(outgoing(2), undoes="1.1"), outgoing(3)),
        "sequence": 3,
    }
    stored.put(opened(**(fields | given)))
    return good(stored.run("cancel", LOAN, "l-2", "--yes"))[1:]


ENDED = (
    "it has ended; what it asked for before may still be done, and an answer to that changes "
    "nothing any more: see to it where it is answered"
)


def test_it_is_told_what_is_withdrawn_and_what_is_not(stored: Stored) -> None:
    withdrawn, kept, follows = cancelled_with(stored)
    assert withdrawn == "withdrawn, since the bus never took it: Remind i-1-1, Remind i-1-3"
    assert kept == "sent nevertheless, since it undoes a step: Remind i-1-2"
    assert follows.startswith("the running workers go on with it")
    assert [message["id"] for message in stored.get("l-2")["outbox"]] == ["i-1-2"]


def test_it_is_told_what_a_worker_may_be_sending(stored: Stored) -> None:
    lease = Lease(owner="a worker", until=datetime.now(UTC) + timedelta(minutes=1))
    under_way, follows = cancelled_with(stored, outbox=(outgoing(3),), lease=lease)
    assert under_way == "may arrive still, since a worker may be sending it now: Remind i-1-3"
    assert follows == ENDED


@pytest.mark.parametrize(
    ("sequence", "ends"),
    [(1, "it has ended, and nothing is left to do"), (2, ENDED)],
    ids=["nothing was ever sent", "an answer may come"],
)
def test_nothing_is_left_to_do_only_if_nothing_was_asked_for(
    sequence: int, ends: str, stored: Stored
) -> None:
    left = (outgoing(sequence),)
    assert cancelled_with(stored, outbox=left, sequence=sequence) == [
        f"withdrawn, since the bus never took it: Remind i-1-{sequence}",
        ends,
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry", LOAN, "l-1"), "Loan 'l-1': cannot retry, since it is active; only a suspended"),
        (("resume", LOAN, "l-1"), "cannot resume, since it is active"),
        (("skip", LOAN, "l-1"), "cannot skip, since it is active"),
        (("cancel", LOAN, "done"), "Loan 'done': cannot cancel, since it has ended"),
        (("cancel", LOAN, "l-1", "--state", "held"), "cannot end in 'held'; its final states: clo"),
        (("cancel", LOAN, "l-1", "--state", "gone"), "no state 'gone'; its final states: closed, "),
        (("retry", LOAN, "l-7"), "there is no saga with the id 'l-7', of the kind str"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: tuple[str, ...], said: str, stored: Stored) -> None:
    ended = loan("done", status=Status.FINISHED, state="closed", finished_at=AGO)
    stored.put(loan(), ended)
    before = stored.get("l-1")
    assert said in refused(stored.run(*arguments, "--yes"))
    assert stored.get("l-1") == before


@pytest.mark.parametrize("action", ["retry", "resume", "skip", "cancel"])
def test_without_a_terminal_nothing_is_done_unasked(action: str, stored: Stored) -> None:
    stored.put(failed_event())
    before = stored.get("l-3")
    line = refused(stored.run(action, LOAN, "l-3"))
    assert line == f"error: there is no terminal to ask on: say {action} --yes"
    assert stored.get("l-3") == before


@pytest.mark.parametrize(("answer", "status"), [("y", "compensating"), ("n", "suspended")])
def test_on_a_terminal_it_is_asked_first(
    answer: str, status: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagaflow.commands.operate._is_terminal", lambda: True)
    stored.put(failed_event(compensations=loan().compensations))
    result = stored.run("cancel", LOAN, "l-3", input=f"{answer}\n")
    asked = result.stderr.splitlines()
    assert asked[0] == "Loan l-3 is suspended in open"
    assert asked[1].startswith("suspended 2 h ")
    assert asked[1].endswith(" ago: OSError: the till is jammed")
    assert asked[2] == "to be undone, in this order: hold"
    assert asked[3].startswith("Undo and end it? [y/N]:")
    assert result.exit_code == (0 if answer == "y" else 1)
    assert ("nothing was changed" in result.stderr) is (answer == "n")
    assert stored.get("l-3")["status"] == status


def test_it_is_asked_of_what_the_database_says(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagaflow.commands.operate._is_terminal", lambda: True)
    stored.put(opened())
    result = stored.run("cancel", LOAN, "l-2", input="y\n")
    assert "to be undone, in this order: nothing" in result.stderr
