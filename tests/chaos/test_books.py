"""The books find each kind of broken promise, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from attrs import evolve

from tests.chaos.books import Acceptance, Carried, Evidence, check, unfinished
from tests.chaos.plan import Errands, Fate, Plan, Said

Document = dict[str, Any]

_PATH: Final = (
    ("e0 placed", "Placed", "place", "paying"),
    ("charged", "Charged", "charged", "reserving"),
    ("e0 note 0", "Noted", "note", "reserving"),
    ("e0-timer-1", "Reminded", "remind", "reserving"),
    ("reserved", "Reserved", "reserved", "delivering"),
)
_TOLD: Final = (
    ("e0 placed", "started"),
    ("charged", "transitioned"),
    ("e0 note 0", "stayed"),
    ("reserved", "transitioned"),
)


def _entry(
    version: int, message: str, event: str, step: str, source: str | None, target: str
) -> Document:
    return {
        "version": version,
        "token": f"token {version}",
        "message_id": message,
        "event": event,
        "kind": event if event in {"timeout", "compensation"} else "event",
        "step": step,
        "source": source,
        "target": target,
    }


def _life(*last: tuple[str, str, str, str]) -> list[Document]:
    history: list[Document] = []
    for message, event, step, target in (*_PATH, *last):
        source = history[-1]["target"] if history else None
        history.append(_entry(len(history) + 1, message, event, step, source, target))
    return history


def _document(history: list[Document], said: list[str], undone: list[str]) -> Document:
    status = "done" if undone else "pending"
    return {
        "_id": "e0",
        "version": len(history),
        "token": history[-1]["token"],
        "state": history[-1]["target"],
        "status": "finished",
        "history": history,
        "outbox": [],
        "timers": [],
        "parked": [],
        "compensations": [
            {"step": "charged", "status": status},
            {"step": "reserved", "status": status},
        ],
        "data": {
            "applied": [
                entry["message_id"] for entry in history if entry["event"] != "compensation"
            ],
            "said": said,
            "undone": undone,
            "notes": 1,
            "reminded": True,
        },
    }


def _carried(said: list[str]) -> tuple[Carried, ...]:
    undoes = {"Refund": "m2", "Release": "m3"}
    return tuple(
        Carried(
            message=f"m{place}",
            errand="e0",
            command=command,
            place=place,
            undoes=undoes.get(command),
        )
        for place, command in enumerate(said, 1)
    )


def _evidence(document: Document, told: list[tuple[str, str]], fate: Fate) -> Evidence:
    errand = Errands(id="e0", fate=fate, notes=1, cancelled=False)
    said = tuple(
        Said(id=message, errand="e0", event=event, fields={}, twice=False)
        for message, event in (("e0 placed", "Placed"), ("e0 note 0", "Noted"))
    )
    carried = _carried(document["data"]["said"])
    return Evidence(
        plan=Plan(seed=0, errands=(errand,), clients=(said,), workers=(), faults=(), rolls_at=0),
        documents=(document,),
        deliveries=carried,
        effects=carried,
        accepted=tuple(
            Acceptance(message=message, errand="e0", kind=kind, version=1)
            for message, kind in (*_TOLD, *told)
        ),
    )


_FORWARD: Final = ["Stamp", "Charge", "Reserve", "Stamp", "Stamp", "Deliver"]


def completed() -> Evidence:
    """An errand that was delivered."""
    history = _life(("delivered", "Delivered", "delivered", "done"))
    document = _document(history, list(_FORWARD), [])
    return _evidence(document, [("delivered", "transitioned")], Fate.DELIVERED)


def undone() -> Evidence:
    """An errand that was overdue, and taken back."""
    history = _life(
        ("e0-timer-2", "timeout", "overdue", "delivering"),
        ("reserved", "compensation", "reserved", "delivering"),
        ("charged", "compensation", "charged", "expired"),
    )
    said = [*_FORWARD, "Release", "Refund"]
    document = _document(history, said, ["reserved", "charged"])
    return _evidence(document, [], Fate.OVERDUE)


def test_nothing_is_found_where_all_is_well() -> None:
    assert check(completed()) == []
    assert check(undone()) == []
    assert unfinished(completed().plan, completed().documents) == []


def test_what_came_twice_is_one_effect_and_no_violation() -> None:
    evidence = completed()
    again = evolve(
        evidence,
        deliveries=(*evidence.deliveries[:3], *evidence.deliveries),
        accepted=(
            *evidence.accepted,
            Acceptance(message="e0 placed", errand="e0", kind="duplicate", version=3),
            Acceptance(message="e0 note 0", errand="e0", kind="finished", version=6),
        ),
    )
    assert check(again) == []


def _with_kept(evidence: Evidence) -> Evidence:
    """Return the evidence of a saga that kept an event which came to nothing when it ended."""
    document = evidence.documents[0]
    last = document["history"][-1]
    event = {**last, "message_id": "late", "event": "Noted", "step": "parked"}
    kept = event | {"kind": "parked", "target": last["source"], "token": "token parked"}
    document["history"].insert(-1, kept)
    last["version"], kept["version"] = last["version"] + 1, last["version"]
    dropped = event | {"kind": "dropped", "version": last["version"], "source": last["target"]}
    document["history"].insert(-1, dropped)
    told = Acceptance(message="late", errand="e0", kind="deferred", version=kept["version"])
    return evolve(
        evidence,
        documents=({**document, "version": last["version"]},),
        accepted=(*evidence.accepted, told),
    )


def test_what_was_kept_may_come_to_nothing_when_the_saga_ends_if_the_history_says_so() -> None:
    evidence = _with_kept(undone())
    assert check(evidence) == []
    evidence.documents[0]["history"].pop(-2)
    (problem,) = check(evidence)
    assert "neither applied nor told to have come to nothing" in problem


def test_suspended_saga_is_at_rest_where_someone_sees_it() -> None:
    evidence = completed()
    document = {**evidence.documents[0], "status": "suspended", "state": "delivering"}
    document["suspension"] = {"reason": "handler"}
    assert unfinished(evidence.plan, [document]) == []
    document.pop("suspension")
    assert unfinished(evidence.plan, [document]) == ["e0"]


Change = Callable[[Document], Any]


def _cut(document: Document) -> None:
    document["history"].pop(2)


def _overwritten(document: Document) -> None:
    document["data"]["applied"].remove("e0 note 0")


def _twice(document: Document) -> None:
    last = document["history"][-1]
    document["history"].append({**document["history"][2], "version": 7, "token": "token 7"})
    document["history"][-1]["source"] = last["target"]
    document["version"], document["token"] = 7, "token 7"
    document["data"]["applied"].append("e0 note 0")


STORED: Final[dict[str, tuple[Change, str]]] = {
    "not ended": (lambda d: d.update(status="active"), "not come to an end"),
    "outbox": (lambda d: d["outbox"].append({"id": "m7"}), "left with outbox"),
    "timer": (lambda d: d["timers"].append({"id": "t"}), "left with timers"),
    "parked": (lambda d: d["parked"].append({"id": "p"}), "left with parked"),
    "wake": (lambda d: d.update(wake="now"), "still to wake"),
    "version": (lambda d: d.update(version=9), "versions do not rise by one"),
    "missing write": (_cut, "versions do not rise by one"),
    "same token": (lambda d: d["history"][2].update(token="token 2"), "stored twice"),
    "other token": (lambda d: d.update(token="another"), "last write is not in its history"),
    "source": (lambda d: d["history"][3].update(source="paying"), "not of what was there"),
    "overwritten data": (_overwritten, "its history says"),
    "lost event": (_overwritten, "e0 note 0 was accepted (stayed) and is not applied"),
    "event twice": (_twice, "e0 note 0 was applied 2 times"),
    "recorded": (lambda d: d["compensations"].pop(), "recorded is how to undo"),
    "too few notes": (lambda d: d["data"].update(notes=0), "with 0 of 1 notes"),
    "never sent": (lambda d: d["data"]["said"].pop(), "which it never sent"),
    "lost command": (lambda d: d["data"]["said"].append("Stamp"), "was lost"),
}


@pytest.mark.parametrize("name", STORED)
def test_a_wrong_document_is_found(name: str) -> None:
    evidence, (change, said) = completed(), STORED[name]
    change(evidence.documents[0])  # type: ignore[arg-type]
    assert any(said in problem for problem in check(evidence)), check(evidence)


UNDOING: Final[dict[str, tuple[Change, str]]] = {
    "order": (lambda d: d["data"]["undone"].reverse(), "last first"),
    "twice": (lambda d: d["data"]["undone"].append("charged"), "last first"),
    "pending": (lambda d: d["compensations"][0].update(status="pending"), "is pending"),
    "completed": (lambda d: d.update(state="done"), "is undone"),
    "timer twice": (
        lambda d: d["history"][3].update(message_id="e0-timer-2"),
        "the timer e0-timer-2 has fired 2 times",
    ),
    "hour early": (lambda d: d["history"][5].update(step="forgotten"), "an hour early"),
}


@pytest.mark.parametrize("name", UNDOING)
def test_a_compensation_that_is_wrong_is_found(name: str) -> None:
    evidence, (change, said) = undone(), UNDOING[name]
    change(evidence.documents[0])  # type: ignore[arg-type]
    assert any(said in problem for problem in check(evidence)), check(evidence)


def _without(evidence: Evidence, command: str) -> Evidence:
    left = tuple(one for one in evidence.effects if one.command != command)
    return evolve(evidence, effects=left, deliveries=left)


def _told(kind: str, message: str, version: int = 1) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        one = Acceptance(message=message, errand="e0", kind=kind, version=version)
        return evolve(evidence, accepted=(*evidence.accepted, one))

    return change


def _doubled(evidence: Evidence) -> Evidence:
    again = evolve(evidence.effects[1], message="m9")
    return evolve(
        evidence, effects=(*evidence.effects, again), deliveries=(*evidence.deliveries, again)
    )


def _other(evidence: Evidence) -> Evidence:
    last = evolve(evidence.effects[-1], undoes="m1")
    effects = (*evidence.effects[:-1], last)
    return evolve(evidence, effects=effects, deliveries=effects)


WITNESSED: Final[dict[str, tuple[Callable[[Evidence], Evidence], str]]] = {
    "lost saga": (lambda e: evolve(e, documents=()), "nothing is stored of it"),
    "stray saga": (
        lambda e: evolve(e, documents=(*e.documents, {**e.documents[0], "_id": "e9"})),
        "nobody asked for it",
    ),
    "lost refund": (lambda e: _without(e, "Refund"), "Charge is not taken back"),
    "money": (lambda e: _without(e, "Refund"), "0 given back"),
    "other charge": (_other, "Charge is not taken back"),
    "doubled": (_doubled, "took effect 2 times"),
    "order": (lambda e: evolve(e, deliveries=e.deliveries[::-1]), "out of order"),
    "no effect": (lambda e: evolve(e, effects=e.effects[:-1]), "not what was done"),
    "vanished": (_told("deferred", "e0 note 9"), "has vanished"),
    "applied": (_told("stayed", "e0 note 9"), "is not applied"),
    "no duplicate": (_told("duplicate", "e0 note 9"), "had never come before"),
    "version": (_told("duplicate", "e0 note 0", 99), "and there are 8"),
    "never accepted": (lambda e: evolve(e, accepted=e.accepted[1:]), "was never accepted"),
    "surprise": (lambda e: evolve(e, surprises=("TypeError",)), "TypeError"),
}


@pytest.mark.parametrize("name", WITNESSED)
def test_what_does_not_agree_with_the_participant_or_the_clients_is_found(name: str) -> None:
    change, said = WITNESSED[name]
    found = check(change(undone()))
    assert any(said in problem for problem in found), found
