"""``show`` and ``explain``: one saga in full."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from attrs import evolve

from sagaflow import SagaId, Status
from sagaflow._codec.documents import encode_record
from sagaflow._model.record import CompensationStatus
from tests.commands.support import (
    AGO,
    ERROR,
    LOAN,
    NOW,
    Stored,
    failed_event,
    good,
    loan,
    opened,
    outgoing,
    refused,
)


def squeezed(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def test_a_saga_is_shown_in_full(stored: Stored) -> None:
    stored.put(loan(outbox=(outgoing(1),), sequence=1))
    lines = squeezed(good(stored.run("show", LOAN, "l-1")))
    assert lines[:4] == ["Loan l-1", "state held", "status active", "version 2"]
    assert "number 'l-1'" in lines
    assert "amount 7" in lines
    history = lines[lines.index("history") + 1 :][:2]
    assert history[0].endswith("v1 Asked ask -> open message m-1")
    assert history[1].endswith("+1 s v2 Granted hold -> held message m-2")
    assert lines[lines.index("pending") + 1].startswith("to send Remind i-1-1, 2 h")
    assert lines[-2:] == ["what would be undone, in this order", "hold, with release"]


def test_what_waits_and_why_it_is_suspended_is_shown(stored: Stored) -> None:
    stored.put(failed_event())
    lines = squeezed(good(stored.run("show", LOAN, "l-3")))
    (suspended,) = (line for line in lines if line.startswith("suspended "))
    assert suspended.endswith("ago, handler: OSError: the till is jammed")
    pending = lines[lines.index("pending") + 1 :]
    assert pending[0].startswith("parked Granted m-9, 2 h")
    assert pending[1].startswith("timeout late ")
    assert "Traceback" not in "".join(lines)
    whole = good(stored.run("show", LOAN, "l-3", "--traceback"))
    assert [line.strip() for line in whole[-3:]] == [line.strip() for line in ERROR.splitlines()]


def test_a_saga_that_is_undone_shows_how_far(stored: Stored) -> None:
    first, second = loan().compensations[0], evolve(loan().compensations[0], id="2.2", step="more")
    failing = failed_event().parked[0].failing
    stored.put(
        loan(
            status=Status.COMPENSATING,
            goal="refused",
            compensations=(
                evolve(first, failing=failing),
                evolve(second, status=CompensationStatus.DONE),
            ),
        )
    )
    lines = squeezed(good(stored.run("show", LOAN, "l-1")))
    assert "state held, on its way to refused" in lines
    assert lines[lines.index("what is undone, in this order") + 1] == (
        "hold, with release failed 7 times: OSError: the till is jammed"
    )
    assert lines[lines.index("was undone") + 1] == "more, with release done"


def test_data_that_the_class_cannot_read_hides_nothing_else(stored: Stored) -> None:
    stored.put(loan(data={"number": "l-1", "amount": "much"}))
    lines = good(stored.run("show", LOAN, "l-1"))
    (line,) = (line for line in lines if "cannot be read by this code: Loan.amount" in line)
    assert "hold, with release" in lines[-1]
    found = json.loads(stored.run("show", LOAN, "l-1", "--json").stdout)
    assert found["data"] is None
    assert found["unreadable"] in line


def test_a_finished_saga_says_when(stored: Stored) -> None:
    stored.put(loan(state="closed", status=Status.FINISHED, finished_at=AGO, history=()))
    lines = squeezed(good(stored.run("show", LOAN, "l-1")))
    assert any(line.startswith("finished 20") for line in lines)
    assert lines[lines.index("history") + 1] == "none"


def test_a_saga_for_programs(stored: Stored) -> None:
    stored.put(failed_event(outbox=(outgoing(1),), sequence=1, compensations=loan().compensations))
    found = json.loads("\n".join(good(stored.run("show", LOAN, "l-3", "--json"))))
    started = (AGO + timedelta(seconds=1)).isoformat()
    assert found == {
        "saga": "Loan",
        "id": "l-3",
        "id_type": "str",
        "state": "open",
        "status": "suspended",
        "goal": None,
        "version": 1,
        "schema": 1,
        "created_at": AGO.isoformat(),
        "updated_at": (AGO + timedelta(minutes=1)).isoformat(),
        "finished_at": None,
        "wake": None,
        "suspension": {
            "reason": "handler",
            "subject": "m-9",
            "since": AGO.isoformat(),
            "error": "OSError: the till is jammed",
        },
        "data": {"number": "'l-1'", "amount": "7"},
        "unreadable": None,
        "history": [
            {
                "at": started,
                "version": 1,
                "event": "Asked",
                "step": "ask",
                "source": None,
                "target": "open",
                "message_id": "m-1",
                "attempt": 1,
                "kind": "event",
            }
        ],
        "outbox": [
            {"id": "i-1-1", "kind": "command", "type": "Remind", "created_at": AGO.isoformat()}
        ],
        "parked": [{"id": "m-9", "type": "Granted", "parked_at": AGO.isoformat()}],
        "timers": [
            {
                "id": "i-1-1-timer-1",
                "name": "late",
                "kind": "timeout",
                "due": (NOW + timedelta(hours=3)).isoformat(),
                "type": None,
            }
        ],
        "compensations": [{"id": "2.1", "step": "hold", "method": "release", "status": "pending"}],
    }


@pytest.mark.parametrize("command", ["show", "explain", "graph"])
@pytest.mark.parametrize(
    ("arguments", "stored_id", "said"),
    [
        (("7",), 7, "the id '7', of the kind str; or was int:7 meant?"),
        (("int:7",), "7", "the id 7, of the kind int; or was str:7 meant?"),
        (("--id-type", "int", "7"), "7", "the id 7, of the kind int; or was str:7 meant?"),
        (("--id-type", "str", "int:7"), 7, "the id 'int:7', of the kind str"),
        (("int:seven",), 7, "'seven' is no id of the kind int"),
        (("uuid:7",), 7, "'7' is no id of the kind uuid"),
        (("objectid:7",), 7, "'7' is no id of the kind objectid"),
        (("int:99999999999999999999",), 7, "it needs more than 64 bits"),
    ],
)
def test_the_id_that_was_looked_for_is_told(
    command: str, arguments: tuple[str, ...], stored_id: SagaId, said: str, stored: Stored
) -> None:
    stored.put(loan(stored_id))
    if command == "graph":
        arguments = (*arguments[:-1], "--saga", arguments[-1])
    assert said in refused(stored.run(command, LOAN, *arguments))


def test_text_that_would_move_the_cursor_does_not(stored: Stored) -> None:
    document = encode_record(failed_event())
    document["data"]["number"] = "a\x1b[2Jb"
    document["suspension"]["error"] = "\x1b[31mred"
    document["parked"][0]["type"] = "Gra\x07nted"
    stored.client[stored.database]["Loan"].insert_one(document)
    for command in ("show", "explain"):
        text = "\n".join(good(stored.run(command, LOAN, "l-3")))
        assert "\x07" not in text
        assert "\\x1b[31mred" in text


# explain: the sentences themselves are tested where they are made


def test_a_saga_is_explained(stored: Stored) -> None:
    stored.put(failed_event())
    lines = good(stored.run("explain", LOAN, "l-3"))
    assert lines[0] == "Loan l-3"
    assert lines[1].startswith("  in open since 20")
    for title in ("waits for", "comes next, without any event", "what you can do"):
        assert title in lines
    commands = [" ".join(line.split()) for line in lines[-3:]]
    assert [line.split(" l-3 ")[0] for line in commands] == [
        f"sagaflow {verb} {LOAN}" for verb in ("resume", "skip", "cancel")
    ]


def test_a_finished_saga_waits_for_nothing(stored: Stored) -> None:
    stored.put(loan(state="closed", status=Status.FINISHED, finished_at=AGO))
    text = "\n".join(good(stored.run("explain", LOAN, "l-1")))
    for said in ("no event: nothing that comes changes it", "nothing: it has ended"):
        assert said in text


def test_what_can_be_done_can_be_typed(stored: Stored) -> None:
    stored.put(opened(7))
    line = good(stored.run("explain", LOAN, "int:7"))[-1]
    _, *command = line.split("  ")[1].split()
    good(stored.run(*command, "--yes"))
    assert stored.get(7)["status"] == "finished"
