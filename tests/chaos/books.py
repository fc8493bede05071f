"""The books: what was stored, done and said, checked against each other when all is at rest.

They know nothing of how sagaflow works, only what it promises.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from tests.chaos.errand import RUNS, TIMERS
from tests.chaos.plan import Errands, Fate, Plan

Document: TypeAlias = Mapping[str, Any]

_RAN: Final = frozenset({"started", "transitioned", "stayed", "compensating"})
_KEPT: Final = frozenset({"deferred", "suspended"})
_UNDOES: Final = {"charged": "Refund", "reserved": "Release"}
_FORWARD: Final = {"charged": "Charge", "reserved": "Reserve"}
_ONCE: Final = ("place", "charged", "reserved", "refused", "delivered", "overdue", "inspect")
_HISTORY: Final = 64
"""How much a saga remembers; what was before cannot be checked."""


@frozen(kw_only=True)
class Carried:
    """A command, as the participant has it on paper: a delivery, or what it did.

    :ivar place: the command's number, as counted by its saga.
    :ivar undoes: the message that it takes back.
    """

    message: str
    errand: str
    command: str
    place: int
    undoes: str | None = None


@frozen(kw_only=True)
class Acceptance:
    """What the sender of an event was told of it."""

    message: str
    errand: str
    kind: str
    version: int


@frozen(kw_only=True)
class Evidence:
    """All that is known in the end.

    :ivar documents: the sagas as they are stored.
    :ivar deliveries: of commands, in the order in which they came.
    :ivar effects: what was done, once for each message id.
    :ivar accepted: the events whose senders were told so.
    :ivar surprises: what nobody should have seen.
    """

    plan: Plan
    documents: tuple[Document, ...]
    deliveries: tuple[Carried, ...]
    effects: tuple[Carried, ...]
    accepted: tuple[Acceptance, ...]
    surprises: tuple[str, ...] = field(default=())


def unfinished(plan: Plan, documents: Iterable[Document]) -> list[str]:
    """Return the sagas that are not at an end, or have work left."""
    at_rest = {
        document["_id"]
        for document in documents
        if "wake" not in document
        and (document["status"] == "finished" or document.get("suspension"))
    }
    return [errand.id for errand in plan.errands if errand.id not in at_rest]


def check(evidence: Evidence) -> list[str]:
    """Return every promise that was broken."""
    broken: list[str] = []
    documents = {document["_id"]: document for document in evidence.documents}
    deliveries, effects = _by_errand(evidence.deliveries), _by_errand(evidence.effects)
    accepted: defaultdict[str, list[Acceptance]] = defaultdict(list)
    for one in evidence.accepted:
        accepted[one.errand].append(one)
    said: defaultdict[str, set[str]] = defaultdict(set)
    for client in evidence.plan.clients:
        for event in client:
            said[event.errand].add(event.id)
    planned = {errand.id for errand in evidence.plan.errands}
    broken += [f"{stray}: nobody asked for it" for stray in sorted(documents.keys() - planned)]
    for errand in evidence.plan.errands:
        document = documents.get(errand.id)
        if document is None:
            broken.append(f"{errand.id}: is lost: nothing is stored of it")
            continue
        found = [
            *_check_end(document),
            *_check_history(document),
            *_check_accepted(document, accepted[errand.id], said[errand.id]),
            *_check_steps(errand, document),
            *_check_commands(document, deliveries[errand.id], effects[errand.id]),
            *_check_undone(document, effects[errand.id]),
        ]
        broken += [f"{errand.id}: {problem}" for problem in found]
    return [*broken, *_check_money(evidence, documents), *evidence.surprises]


def _by_errand(carried: Iterable[Carried]) -> defaultdict[str, list[Carried]]:
    found: defaultdict[str, list[Carried]] = defaultdict(list)
    for one in carried:
        found[one.errand].append(one)
    return found


def _check_end(document: Document) -> Iterator[str]:
    if document.get("suspension"):
        return  # where someone can see it
    if document["status"] != "finished":
        yield f"has not come to an end: {document['status']} in {document['state']}"
    for name in ("outbox", "timers", "parked"):
        if document[name]:
            yield f"is left with {name}: {document[name]}"
    if "wake" in document:
        yield f"is still to wake at {document['wake']}"


def _check_history(document: Document) -> Iterator[str]:
    history = document["history"]
    writes = _writes(document)
    versions = [entry["version"] for entry in writes]
    first = versions[0] if len(history) == _HISTORY else 1
    if versions != list(range(first, document["version"] + 1)):
        yield f"its versions do not rise by one: {versions}, and it is {document['version']}"
    if len({entry["token"] for entry in history}) != len(writes):
        yield "a write was stored twice"
    for before, after in pairwise(writes):
        if after["source"] is not None and after["source"] != before["target"]:
            yield f"version {after['version']} was made of {after['source']}, not of what was there"
    if history and history[-1]["token"] != document["token"]:
        yield "its last write is not in its history"
    if _is_whole(document):
        ran = [entry["message_id"] for entry in history if _ran(entry)]
        if ran != document["data"].get("applied", []):
            yield f"its history says {ran}, its data {document['data'].get('applied')}"


def _writes(document: Document) -> list[Document]:
    """Return what the history says of each write.

    That which ends a saga also says what then comes to nothing.
    """
    history = document["history"]
    ended = {entry["version"] for entry in history if entry["kind"] != "dropped"}
    return [
        entry for entry in history if entry["kind"] != "dropped" or entry["version"] not in ended
    ]


def _is_whole(document: Document) -> bool:
    """Tell whether the history reaches back to the first write."""
    return any(entry["version"] == 1 for entry in document["history"])


def _ran(entry: Document) -> bool:
    """Tell whether a write of the history is of a handler's run, rather than of undoing one."""
    return entry["step"] in RUNS and entry["kind"] in {"event", "timeout"}


def _check_accepted(
    document: Document, accepted: list[Acceptance], said: set[str]
) -> Iterator[str]:
    applied = Counter[str](document["data"].get("applied", []))
    completed = document["state"] == "done"
    seen = {entry["message_id"] for entry in document["history"]}
    complete = _is_whole(document)
    dropped = {entry["message_id"] for entry in document["history"] if entry["kind"] == "dropped"}
    for message, times in applied.items():
        if times > 1:
            yield f"{message} was applied {times} times"
    for one in accepted:
        told = f"{one.message} was accepted ({one.kind})"
        if one.kind in _RAN and not applied[one.message]:
            yield f"{told} and is not applied"
        if one.kind in _KEPT and complete and one.message not in seen:
            yield f"{told} and has vanished"
        if one.kind in _KEPT and complete and not applied[one.message]:
            if completed:
                yield f"{told} and never applied"
            elif one.message not in dropped and document["status"] == "finished":
                yield f"{told}, and is neither applied nor told to have come to nothing"
        if one.kind == "duplicate" and complete and one.message not in seen:
            yield f"{told} and had never come before"
        if one.kind == "finished" and document["status"] != "finished":
            yield f"{told}, and the saga has not ended"
        if one.version > document["version"]:
            yield f"{told} as version {one.version}, and there are {document['version']}"
    for message in sorted(said - {one.message for one in accepted}):
        yield f"{message} was never accepted"


def _check_steps(errand: Errands, document: Document) -> Iterator[str]:
    ran = [entry for entry in document["history"] if _ran(entry)]
    timed = Counter(entry["message_id"] for entry in ran if entry["step"] in TIMERS)
    for message, times in timed.items():
        if times > 1:
            yield f"the timer {message} has fired {times} times"
    steps = Counter(entry["step"] for entry in ran)
    for step in _ONCE:
        if steps[step] > 1:
            yield f"{step} has run {steps[step]} times"
    if steps["remind"] + steps["remind_waiting"] > 1:
        yield "it was reminded twice"
    if steps["forgotten"]:
        yield "a timer has fired an hour early"
    if document["state"] == "done":
        data = document["data"]
        if data["notes"] != errand.notes or not data["reminded"]:
            yield f"it was delivered with {data['notes']} of {errand.notes} notes"
        if errand.fate is not Fate.DELIVERED:
            yield f"it was delivered, although it was to be {errand.fate.value}"


def _check_commands(
    document: Document, deliveries: list[Carried], effects: list[Carried]
) -> Iterator[str]:
    said = document["data"].get("said", [])
    by_place: defaultdict[int, list[Carried]] = defaultdict(list)
    for effect in effects:
        by_place[effect.place].append(effect)
    for place, command in enumerate(said, 1):
        done = by_place.pop(place, [])
        if not done:
            yield f"its command {place}, {command}, was lost"
        elif len(done) > 1:
            ids = [one.message for one in done]
            yield f"its command {place}, {command}, took effect {len(done)} times: {ids}"
        elif done[0].command != command:
            yield f"its command {place} was {command}, and {done[0].command} was done"
    for place, done in sorted(by_place.items()):
        yield f"{done[0].command} was done as its command {place}, which it never sent"
    first = list({one.message: one.place for one in deliveries}.values())
    if first != sorted(first):
        yield f"its commands came out of order: {first}"
    if {one.message for one in deliveries} != {one.message for one in effects}:
        yield "what was delivered is not what was done"


def _check_undone(document: Document, effects: list[Carried]) -> Iterator[str]:
    steps = [
        entry["step"] for entry in document["history"] if entry["step"] in _UNDOES and _ran(entry)
    ]
    recorded = {entry["step"]: entry["status"] for entry in document["compensations"]}
    if _is_whole(document) and list(recorded) != steps:
        yield f"it has done {steps}, and recorded is how to undo {list(recorded)}"
    undone = document["data"].get("undone", [])
    done = {effect.command: effect for effect in effects}
    if document["state"] == "done" or document["status"] != "finished":
        if document["state"] == "done" and (undone or set(_UNDOES.values()) & done.keys()):
            yield f"it was completed, and {undone or set(done)} is undone"
        return
    if undone != list(reversed(recorded)):
        yield f"undone were {undone}; that is not all of {list(recorded)}, last first"
    for step, status in recorded.items():
        if status != "done":
            yield f"undoing {step} is {status}, and it has ended"
        undoing, doing = done.get(_UNDOES[step]), done.get(_FORWARD[step])
        if undoing is None or doing is None or undoing.undoes != doing.message:
            yield f"{_FORWARD[step]} is not taken back: {doing}, {undoing}"
    for step, command in _UNDOES.items():
        if command in done and step not in recorded:
            yield f"{command} was done, and nothing to undo"


def _check_money(evidence: Evidence, documents: Mapping[str, Document]) -> list[str]:
    """Check that as much was kept as errands were completed, each costing the same."""
    kept = Counter(effect.command for effect in evidence.effects)
    completed = sum(document["state"] == "done" for document in documents.values())
    if kept["Charge"] - kept["Refund"] == completed:
        return []
    money = f"{kept['Charge']} were charged and {kept['Refund']} given back"
    return [f"{money}, and {completed} errands are completed"]
