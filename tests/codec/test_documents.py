from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from attrs import evolve, field, frozen

from sagaflow import Context, MemoryRepository, Orchestrator, Saga, State, during, initially
from sagaflow._codec.data import decode_saga, encode_saga
from sagaflow._codec.documents import (
    HISTORY_SIZE,
    DocumentChange,
    Push,
    decode_record,
    encode_change,
    encode_record,
)
from sagaflow._codec.elements import HISTORY, Document
from sagaflow._forms.size import document_size
from sagaflow._model.record import CompensationStatus, HistoryKind, SagaRecord, Status
from tests.contract.records import (
    FAILING,
    NOW,
    SECOND,
    compensation,
    full_record,
    outgoing,
    past,
    record,
    timer,
)

T = TypeVar("T")


def change(before: SagaRecord, after: SagaRecord, *, inbox_size: int = 128) -> DocumentChange:
    return encode_change(before, after, inbox_size=inbox_size)


def quiet(before: SagaRecord, **given: Any) -> SagaRecord:
    """Return the next version, of which the inbox and the history append nothing."""
    return evolve(before, version=before.version + 1, inbox=(), history=(), **given)


# A whole record


def test_record_is_read_back_as_it_was() -> None:
    assert decode_record(encode_record(full_record())) == full_record()
    assert decode_record(encode_record(record())) == record()


@pytest.mark.parametrize(
    ("event", "step", "source", "target", "kind"),
    [
        ("Paid", "pay", "open", "paid", HistoryKind.EVENT),
        ("Paid", "start", None, "open", HistoryKind.EVENT),
        ("timeout", "give_up", "open", "lost", HistoryKind.TIMEOUT),
        ("timeout", "suspended", "open", "open", HistoryKind.SUSPENDED),
        ("timeout", "no longer declared", "open", "open", HistoryKind.DROPPED),
        ("Paid", "unhandled", "open", "open", HistoryKind.DROPPED),
        ("Paid", "ignored", "open", "open", HistoryKind.DROPPED),
        ("Paid", "parked", "open", "open", HistoryKind.PARKED),
        ("Paid", "parked", None, "", HistoryKind.PARKED),
        ("Paid", "failed", "open", "open", HistoryKind.ATTEMPT),
        ("compensation failed", "pay", "open", "open", HistoryKind.ATTEMPT),
        ("compensation", "pay", "open", "failed", HistoryKind.COMPENSATION),
        ("operator", "cancel", "open", "failed", HistoryKind.OPERATOR),
        # A transition that is called like one of these is known by where it leads.
        ("Paid", "failed", "open", "lost", HistoryKind.EVENT),
        ("timeout", "suspended", "open", "lost", HistoryKind.TIMEOUT),
    ],
)
def test_entry_of_an_earlier_release_says_its_kind_in_words(
    event: str, step: str, source: str | None, target: str, kind: HistoryKind
) -> None:
    entry = evolve(past(1), event=event, step=step, source=source, target=target)
    old = HISTORY.encode(entry)
    del old["kind"]
    assert HISTORY.decode(old) == evolve(entry, kind=kind)


@pytest.mark.parametrize("kind", HistoryKind)
def test_kind_of_an_entry_is_read_back(kind: HistoryKind) -> None:
    entry = evolve(past(1), kind=kind, step="failed", compensates=True)
    assert HISTORY.decode(HISTORY.encode(entry)) == entry


def test_kind_that_only_later_code_knows_does_not_make_a_saga_unreadable() -> None:
    later = HISTORY.encode(past(1)) | {"kind": "amended"}
    assert HISTORY.decode(later) == evolve(past(1), kind=HistoryKind.OTHER)


def test_what_a_saga_has_not_is_not_stored() -> None:
    """Else an idle saga would have an entry in the index of what is due."""
    stored = encode_record(record())
    for name in ("wake", "goal", "lease", "sending", "suspension", "finished_at", "expire_at"):
        assert name not in stored
    assert "cancelled" not in stored


def test_document_has_the_id_of_the_saga_and_nothing_that_is_none() -> None:
    stored = encode_record(full_record())
    assert stored["_id"] == "p-1"
    assert None not in stored.values()


# A change


def test_what_stays_the_same_is_not_written() -> None:
    before = record(data={"weight": 1, "stops": ["here"]}, sequence=1, outbox=(outgoing(1),))
    written = change(before, quiet(before))
    assert written.set == {"version": 2}
    assert written.push == {}
    assert (written.correlation_id, written.incarnation, written.version) == ("p-1", "i-1", 1)


def test_only_changed_fields_are_set() -> None:
    before = record(data={"weight": 1, "stops": ["here"], "price": "1"})
    after = quiet(before, token="t-2", state="waiting", data={"weight": 2, "stops": ["here"]})
    assert change(before, after).set == {
        "version": 2,
        "token": "t-2",
        "state": "waiting",
        "data.weight": 2,
    }


def test_value_that_changes_within_a_field_sets_that_field() -> None:
    before = record(data={"stops": ["here"], "lines": {"a": [1]}})
    after = quiet(before, data={"stops": ["here", "there"], "lines": {"a": [1]}})
    assert change(before, after).set == {"version": 2, "data.stops": ["here", "there"]}


def test_field_that_is_new_is_set_even_if_it_is_none() -> None:
    before = record(data={})
    assert change(before, quiet(before, data={"weight": None})).set == {
        "version": 2,
        "data.weight": None,
    }


def test_field_that_is_gone_is_left_where_it_is() -> None:
    """Code that no longer has the field does not destroy what older code has stored."""
    before = record(data={"weight": 1, "colour": "red"})
    written = change(before, quiet(before, data={"weight": 1}))
    assert written.set == {"version": 2}
    assert not any(name.startswith("data") for name in written.unset)


def test_what_is_no_longer_there_is_unset() -> None:
    before = full_record()
    given: dict[str, Any] = {"goal": None, "suspension": None, "cancelled": False}
    written = change(before, quiet(before, status=Status.ACTIVE, **given))
    assert {"goal", "suspension", "cancelled"} <= set(written.unset)
    assert written.set.keys().isdisjoint(written.unset)
    assert written.set["status"] == "active"


def test_what_bookkeeping_may_have_changed_is_always_written() -> None:
    """What was read of it may be out of date by now."""
    before = record(wake=NOW)
    assert change(before, quiet(before)).set == {"version": 2, "wake": NOW}
    written = change(record(), quiet(record()))
    assert set(written.unset) == {"wake", "lease", "sending"}


def test_until_when_a_saga_is_kept_is_always_written_once_it_has_ended() -> None:
    """Bookkeeping says so then: who suspends it meanwhile must take that back, and knows not of it.

    Of one that goes on nobody says it.
    """
    ended = record(finished_at=NOW)
    assert "expire_at" in change(ended, quiet(ended)).unset
    assert change(ended, quiet(ended, expire_at=NOW)).set["expire_at"] == NOW
    kept = record(finished_at=NOW, expire_at=NOW)
    assert change(kept, quiet(kept)).set["expire_at"] == NOW
    early = record(expire_at=NOW)
    assert "expire_at" not in change(early, quiet(early)).set


def test_messages_are_appended_and_never_rewritten() -> None:
    before = record(outbox=(outgoing(1), outgoing(2)), sequence=2)
    after = quiet(before, outbox=(*before.outbox, outgoing(3), outgoing(4)), sequence=4)
    written = change(before, after)
    assert written.set == {"version": 2, "sequence": 4}
    assert written.push.keys() == {"outbox"}
    assert [item["seq"] for item in written.push["outbox"].items] == [3, 4]
    assert written.push["outbox"].keep is None


def test_messages_that_were_sent_already_are_not_appended_again() -> None:
    before = record(outbox=(), sequence=2)
    after = quiet(before, outbox=(outgoing(2), outgoing(3)), sequence=3)
    assert [item["seq"] for item in change(before, after).push["outbox"].items] == [3]


def test_compensations_are_appended() -> None:
    before = record(compensations=(compensation("1.1"),))
    after = quiet(before, compensations=(*before.compensations, compensation("2.1")))
    written = change(before, after)
    assert written.set == {"version": 2}
    assert [item["id"] for item in written.push["compensations"].items] == ["2.1"]


def test_amended_compensations_are_set_by_their_place() -> None:
    before = record(compensations=(compensation("1.1"), compensation("1.2")))
    done = evolve(before.compensations[1], status=CompensationStatus.DONE)
    written = change(before, quiet(before, compensations=(before.compensations[0], done)))
    assert written.set.keys() == {"version", "compensations.1"}
    assert written.set["compensations.1"]["status"] == "done"
    assert written.push == {}


def test_compensations_that_are_amended_and_added_at_once_are_written_as_a_whole() -> None:
    """One update cannot both set an element of an array and append to it."""
    before = record(compensations=(compensation("1.1"), compensation("1.2")))
    failing = evolve(before.compensations[1], failing=FAILING)
    after = quiet(before, compensations=(before.compensations[0], failing, compensation("2.1")))
    written = change(before, after)
    assert written.set.keys() == {"version", "compensations"}
    assert [item["id"] for item in written.set["compensations"]] == ["1.1", "1.2", "2.1"]
    assert written.push == {}


def test_timers_are_written_as_a_whole_if_they_change() -> None:
    before = record(timers=(timer("a"), timer("b")))
    assert "timers" not in change(before, quiet(before)).set
    written = change(before, quiet(before, timers=(timer("b"), timer("c"))))
    assert [item["id"] for item in written.set["timers"]] == ["b", "c"]
    assert change(before, quiet(before, timers=())).set["timers"] == []


def test_parked_events_are_appended_or_written_as_a_whole() -> None:
    before = full_record()
    first, second = before.parked
    third = evolve(first, id="m-9")
    appended = change(before, quiet(before, parked=(first, second, third)))
    assert [item["id"] for item in appended.push["parked"].items] == ["m-9"]
    assert "parked" not in appended.set
    removed = change(before, quiet(before, parked=(second,)))
    assert [item["id"] for item in removed.set["parked"]] == ["7"]
    assert "parked" not in removed.push


def test_change_tells_by_how_much_a_document_grows_at_most() -> None:
    before = full_record()
    after = evolve(
        before,
        version=4,
        data={**before.data, "note": "x" * 1000},
        outbox=(*before.outbox, outgoing(9)),
        inbox=("m-4",),
        history=(past(4),),
    )
    grown = evolve(after, inbox=(*before.inbox, "m-4"), history=(*before.history, past(4)))
    growth = document_size(encode_record(grown)) - document_size(encode_record(before))
    counted = change(before, after).growth
    assert counted is not None
    assert growth <= counted < growth + 500
    new = evolve(after, incarnation="another")
    stored = encode_record(new)
    del stored["_id"]
    assert change(before, new).growth == document_size(stored)


def test_inbox_and_history_are_bounded_rings() -> None:
    before = full_record()
    after = evolve(before, version=4, inbox=("m-4",), history=(past(4),))
    written = change(before, after, inbox_size=5)
    assert written.push["inbox"] == Push(["m-4"], 5)
    assert written.push["history"].keep == HISTORY_SIZE
    assert [item["version"] for item in written.push["history"].items] == [4]


def test_no_path_is_both_set_and_part_of_another() -> None:
    """A server refuses an update whose paths are in conflict."""
    before = full_record()
    changes: list[Callable[[SagaRecord], SagaRecord]] = [
        lambda r: quiet(r, data={"weight": 9, "stops": []}, compensations=r.compensations[:2]),
        lambda r: quiet(r, compensations=(*r.compensations, compensation("9.9")), timers=()),
        lambda r: quiet(
            r,
            compensations=(
                evolve(r.compensations[0], status=CompensationStatus.DONE),
                *r.compensations[1:],
                compensation("9.9"),
            ),
            parked=(),
            wake=None,
        ),
        lambda r: evolve(r, version=4, inbox=(1,), history=(past(4),), sequence=3),
    ]
    for make in changes:
        written = change(before, make(before))
        paths = [*written.set, *written.unset, *written.push]
        assert len(paths) == len(set(paths))
        for path in paths:
            assert not any(other.startswith(f"{path}.") for other in paths)


def test_earlier_wake_is_stored_with_the_transition() -> None:
    before = record(wake=NOW + SECOND)
    assert change(before, quiet(before, wake=NOW)).set["wake"] == NOW


# Through the orchestrator: an unchanged field is not written, whatever its type


@frozen
class Opened:
    box: str


@frozen
class Touched:
    box: str


class Chest(Saga, correlate_by="box"):
    opened = State()
    gone = State(final=True)

    touched: int = 0
    pair: tuple[int, str] = (1, "a")
    row: tuple[int, ...] = (1, 2)
    tags: frozenset[str] = frozenset({"a"})
    anything: object = field(factory=lambda: {"$a": (1, [2])})
    either: int | list[int] = field(factory=lambda: [1])

    start = initially.on(Opened).goto(opened)

    @during(opened).on(Touched).stay()
    def touch(self, event: Touched, ctx: Context) -> None:
        self.touched += 1

    end = during(opened).on(Opened).goto(gone)


class Watching(MemoryRepository):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[DocumentChange] = []

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.changes.append(change)
        return await super().update_document(saga, change)


@pytest.mark.anyio
async def test_event_writes_only_the_fields_that_its_handler_changed() -> None:
    repository = Watching()
    orchestrator = Orchestrator([Chest], repository)
    await orchestrator.handle(Opened("c"))
    await orchestrator.handle(Touched("c"))
    (written,) = repository.changes
    assert [name for name in written.set if name.startswith("data")] == ["data.touched"]
    assert written.push.keys() == {"inbox", "history"}


# The fields of a saga


class Shelf(Saga, correlate_by="box"):
    done = State(final=True)

    label: str = field(default="none", alias="name")
    count: int = field(init=False, default=3)

    start = initially.on(Opened).goto(done)


def test_fields_that_are_not_arguments_of_the_class_are_read_back_too() -> None:
    shelf = Shelf(name="a")
    shelf.count = 7
    assert encode_saga(shelf) == {"label": "a", "count": 7}
    found = decode_saga(Shelf, encode_saga(shelf))
    assert (found.label, found.count) == ("a", 7)


def test_stored_data_is_not_shared_with_the_saga() -> None:
    chest = Chest(either=[1])
    stored: Document = encode_saga(chest)
    found = decode_saga(Chest, stored)
    assert isinstance(found.either, list)
    found.either.append(2)
    assert isinstance(chest.either, list)
    chest.either.append(3)
    assert decode_saga(Chest, stored).either == [1]
