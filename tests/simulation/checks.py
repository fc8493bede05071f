"""What must hold once the world is at rest: the promise, checked on all that was ever stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from sagaflow import OutcomeKind
from sagaflow._codec.elements import Document
from tests.simulation.trip import CancelFlight, CancelHotel
from tests.simulation.world import World

_DONE_AT_ONCE = {
    OutcomeKind.STARTED,
    OutcomeKind.TRANSITIONED,
    OutcomeKind.STAYED,
    OutcomeKind.COMPENSATING,
}
_KEPT = {OutcomeKind.DEFERRED, OutcomeKind.SUSPENDED}


def check(world: World) -> list[str]:
    """Return every promise that was broken."""
    broken = [*world.surprises, *world.memory.forgotten]
    for trip in world.trips:
        snapshots = world.snapshots.get(trip, [])
        broken += [f"{trip}: {problem}" for problem in _problems(world, trip, snapshots)]
    return broken


def _problems(world: World, trip: str, snapshots: list[Document]) -> Iterator[str]:
    if not snapshots:
        yield "never started"
        return
    if len({snapshot["incarnation"] for snapshot in snapshots}) != 1:
        yield "has several lives"
    versions: list[int] = []
    for snapshot in snapshots:
        known = versions[-1] if versions else 0
        written = dict.fromkeys(entry["version"] for entry in snapshot["history"])
        versions += [version for version in written if version > known]
    if versions != list(range(1, snapshots[-1]["version"] + 1)):
        yield f"the versions do not rise by one: {versions}"
    last = world.final[trip]
    if last["status"] != "finished":
        yield f"has not ended: {last['status']}"
    for name in ("outbox", "parked", "timers"):
        if last[name]:
            yield f"is left with {name}: {last[name]}"
    if "wake" in last:
        yield f"is to wake at {last['wake']}"
    if "expire_at" not in last:
        yield "is kept for ever"
    for snapshot in snapshots:
        is_over = snapshot["status"] in ("finished", "embryo") and not snapshot["outbox"]
        if "expire_at" in snapshot and not is_over:
            yield f"may be removed in version {snapshot['version']}, and is needed still"
    yield from _check_events(world, trip, snapshots, last)
    yield from _check_messages(world, trip, snapshots)
    yield from _check_timers(snapshots)
    yield from _check_order(world, snapshots)
    yield from _check_compensations(world, trip, snapshots, last)


def _check_events(
    world: World, trip: str, snapshots: list[Document], last: Document
) -> Iterator[str]:
    applied = Counter[str](last["data"]["applied"])
    for message_id, times in applied.items():
        if times > 1:
            yield f"{message_id} was applied {times} times"
    entries = [entry for snapshot in snapshots for entry in snapshot["history"]]
    kept = {entry["message_id"] for entry in entries if entry["step"] == "parked"}
    settled = {
        entry["message_id"] for entry in entries if entry["step"] in ("ignored", "unhandled")
    }
    for snapshot in snapshots:
        if snapshot["history"][-1]["version"] != snapshot["version"]:
            yield f"version {snapshot['version']} is not in the history"
    for delivered in world.outcomes:
        if delivered.outcome.correlation_id != trip:
            continue
        message_id, kind = delivered.message_id, delivered.outcome.kind
        if delivered.outcome.version < delivered.since:
            yield f"{message_id} was {kind.value} by what had been overwritten before it came"
        if kind in _DONE_AT_ONCE and not applied[message_id]:
            yield f"{message_id} was accepted ({kind.value}) and is not applied"
        if kind in _KEPT and message_id not in kept:
            yield f"{message_id} was accepted ({kind.value}) and is not kept"
    # What waits when the saga ends comes to nothing, and its history says so.
    told = {entry["message_id"] for entry in entries if entry.get("kind") == "dropped"}
    for message_id in kept:
        if message_id not in settled | told and not applied[message_id]:
            yield f"{message_id} was kept and is neither applied nor told to be dropped"


def _check_messages(world: World, trip: str, snapshots: list[Document]) -> Iterator[str]:
    stored: dict[str, Document] = {}
    for snapshot in snapshots:
        for message in snapshot["outbox"]:
            known = stored.setdefault(message["id"], message)
            if known["seq"] != message["seq"] or known["type"] != message["type"]:
                yield f"the message {message['id']} has changed"
    numbers = sorted(message["seq"] for message in stored.values())
    if numbers != list(range(1, snapshots[-1].get("sequence", 0) + 1)):
        yield f"the messages are not numbered one after another: {numbers}"
    first: dict[str, object] = {}
    for message_id, body in world.accepted_by_bus:
        if getattr(body, "trip", None) != trip:
            continue
        if message_id not in stored:
            yield f"{message_id} was sent and never stored"
        elif first.setdefault(message_id, body) != body:
            yield f"{message_id} was sent with two contents"
    sent = [stored[message_id]["seq"] for message_id in first if message_id in stored]
    if sent != sorted(sent):
        yield f"the messages left out of order: {sent}"
    if len(sent) != len(stored) and not world.skipped:
        yield f"only {len(sent)} of {len(stored)} messages were sent"


def _check_timers(snapshots: list[Document]) -> Iterator[str]:
    fired: set[str] = set()
    for before, after in pairwise(snapshots):
        new = after["data"].get("applied", [])[len(before["data"].get("applied", [])) :]
        for message_id in new:
            if "-timer-" not in message_id:
                continue
            armed = {timer["id"] for timer in before["timers"]}
            parked = {event["id"] for event in before["parked"]}
            if message_id not in armed | parked:
                yield f"the timer {message_id} was gone and has fired"
            if message_id in fired:
                yield f"the timer {message_id} has fired twice"
            fired.add(message_id)


def _check_order(world: World, snapshots: list[Document]) -> Iterator[str]:
    """Look for what was done although something that arose earlier could be done."""
    for before, after in pairwise(snapshots):
        if before["status"] != "active":
            continue
        first = [e for e in after["history"] if e["version"] == before["version"] + 1]
        if not first or first[-1].get("kind") not in ("event", "timeout"):
            continue
        done = first[-1]["message_id"]
        timers = {timer["id"]: timer["due"] for timer in before["timers"]}
        parked = {event["id"]: event["parked_at"] for event in before["parked"]}
        arisen = timers.get(done) or parked.get(done) or world.offered.get(done)
        if arisen is None:
            yield f"{done} came out of nowhere"
            continue
        for other, due in timers.items():
            if other != done and due < arisen:
                yield f"{done}, which arose at {arisen}, overtook a timer: {other} of {due}"
        for event in before["parked"]:
            if event["id"] == done:
                break  # what is parked is handled in the order in which it came
            if event["parked_at"] < arisen and not _waits(event, before["state"]):
                yield f"{done}, which arose at {arisen}, overtook {event['id']}"


def _waits(parked: Document, state: str) -> bool:
    """Tell whether a state of the trip defers a parked event."""
    deferred: bool = parked["type"] == "HotelOffered" and state == "booking_flight"
    return deferred


def _check_compensations(
    world: World, trip: str, snapshots: list[Document], last: Document
) -> Iterator[str]:
    recorded = last["compensations"]
    for before, after in pairwise(snapshots):
        ids = [entry["id"] for entry in before["compensations"]]
        if [entry["id"] for entry in after["compensations"]][: len(ids)] != ids:
            yield "a recorded compensation has vanished"
        for old, new in zip(before["compensations"], after["compensations"], strict=False):
            if old["status"] != "pending" and new["status"] != old["status"]:
                yield f"the compensation of {old['step']} went back to {new['status']}"
    statuses = {entry["step"]: entry["status"] for entry in recorded}
    undone = last["data"]["undone"]
    if len(statuses) != len(recorded) or len(set(undone)) != len(undone):
        yield f"a step was recorded or undone twice: {recorded}, {undone}"
    if last["state"] == "failed" and "pending" in statuses.values():
        yield f"it failed and is not undone: {statuses}"
    if last["state"] != "failed" and set(statuses.values()) - {"pending"}:
        yield f"it did not fail and is undone: {statuses}"
    done = [step for step, status in reversed(statuses.items()) if status == "done"]
    if done != undone:
        yield f"undone were {undone}, and {done} are noted"
    commands = {
        type(body) for _, body in world.accepted_by_bus if getattr(body, "trip", None) == trip
    }
    if (CancelHotel in commands) is not ("confirm" in undone) and not world.skipped:
        yield "the hotel was cancelled without being undone, or the other way round"
    asked = "book_hotel" in undone or last["state"] == "expired"
    if (CancelFlight in commands) is not asked and not world.skipped:
        yield "the flight was cancelled without being undone, or the other way round"
