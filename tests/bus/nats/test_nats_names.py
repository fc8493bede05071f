"""Names, plans and stored texts of the bus over NATS: what needs no server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sagaflow._model.verdict import Undeliverable
from sagaflow.exceptions import BusError
from sagaflow.nats.lanes import Failures, Place, place_of, read_failing, write_failing
from sagaflow.nats.letters import LETTER, dead_letter, letter_header
from sagaflow.nats.members import Members, Plan, Taken
from sagaflow.nats.names import LANES, Names, consumer_name, lane_in, lane_of, token
from sagaflow.nats.uris import hosts, servers_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ProcessPayment", "ProcessPayment"),
        ("orders.placed.v1", "orders.placed.v1"),
        ("a..b", "a%2E%2Eb"),
        (".a", "%2Ea"),
        ("two words", "two%20words"),
        ("*", "%2A"),
        ("a.>", "a.%3E"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("50%", "50%25"),
    ],
)
def test_name_becomes_a_valid_end_of_a_subject(name: str, found: str) -> None:
    assert token(name) == found


def test_very_long_name_becomes_a_digest() -> None:
    assert len(token("x" * 1000)) == 64
    assert token("x" * 1000) != token("x" * 1001)


def test_lane_of_a_key_stays_the_same() -> None:
    """Programs in other languages compute it, and stored messages lie in it."""
    assert [lane_of(key) for key in ("o-1", "o-2", "", "ü")] == [10, 0, 0, 5]


def test_lane_is_read_from_the_name_of_its_consumer() -> None:
    assert lane_in(consumer_name(7, "abc1")) == 7
    assert lane_in("somebody-else") is None


def test_names_of_two_prefixes_and_services_never_meet() -> None:
    assert Names("a", "b-inbox-c").inbox != Names("a_inbox_b", "c").inbox


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nats://localhost", "localhost:4222"),
        ("nats://me:secret@one:1,tls://two", "one:1, two:4222"),
        ("nats://token@[::1]:4223", "::1:4223"),
    ],
)
def test_servers_are_shown_without_secrets(uri: str, said: str) -> None:
    assert hosts(servers_of(uri)) == said


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "localhost:4222",
        "http://localhost",
        "nats://",
        "nats://me:se/cret@host",
        "nats://me:se?cret@host",
        "nats://me:se#cret@host",
        "nats://me:se@cret@host",
        "nats://me:se,cret@host",
        "nats://host:0",
        "nats://host:port",
        "nats://host/path",
        "nats://me:secret@[host",
        None,
    ],
)
def test_uri_that_cannot_be_read_is_refused_without_repeating_it(uri: object) -> None:
    with pytest.raises(BusError) as caught:
        servers_of(uri)
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("$JS.ACK.inbox.lane-1-a.1.5.3.17.0", Place("lane-1-a", 5, 3)),
        ("$JS.ACK._.hash.inbox.lane-1-a.1.5.3.17.0.x", Place("lane-1-a", 5, 3)),
        ("$JS.ACK.inbox.lane-1-a.1.five.3.17.0", None),
        ("$JS.ACK.short", None),
        ("_INBOX.a.b.c.d.e.f.g.h", None),
        ("", None),
    ],
)
def test_place_of_a_message_is_read_from_its_reply_subject(reply: str, place: Place | None) -> None:
    assert place_of(reply) == place


def test_failures_are_read_as_they_were_written() -> None:
    failing = {3: Failures(2, NOW), 5: Failures(1, NOW)}
    assert read_failing(write_failing(failing)) == failing


@pytest.mark.parametrize(
    "stored",
    [b"", b"{", b"[]", b"\xff", b'{"a": [1, "x"]}', b'{"1": [1, "2026-01-01"]}', b'{"1": 3}'],
)
def test_damaged_failures_are_none(stored: bytes) -> None:
    assert read_failing(stored) == {}


def test_dead_letter_has_room_for_the_longest_detail() -> None:
    verdict = Undeliverable("failed" * 1000, "\U0001f600" * 100_000)
    header = letter_header(verdict, subject="s", name="n" * 9000, key="k", attempts=1, now=NOW)
    assert len(header) < 30_000
    letter = dead_letter("id", "billing", {LETTER: header}, b"")
    assert letter.detail.endswith("\U0001f600" * 100 + "...") or len(letter.detail) >= 4_500


@pytest.mark.parametrize("header", ["", "###", "e30=", "W10=", "eyJzaW5jZSI6ICIyMDI2LTAxLTAxIn0="])
def test_damaged_dead_letter_is_shown_all_the_same(header: str) -> None:
    letter = dead_letter("id", "billing", {LETTER: header, "ce-id": "m"}, b"body")
    assert (letter.id, letter.service, letter.body) == ("id", "billing", b"body")
    assert letter.headers == {"ce-id": "m"}
    assert letter.since.year == 1970


def taken(*owners: str) -> dict[int, Taken]:
    return {lane: Taken(lane, f"lane-{lane}-{one}", one) for lane, one in enumerate(owners)}


def mine(*lanes: int) -> dict[int, str]:
    return {lane: f"lane-{lane}-me" for lane in lanes}


def test_process_that_is_alone_takes_everything() -> None:
    assert Members("me", 10).plan({}, {}, 0) == Plan((), tuple(range(LANES)), 0)


def test_process_that_joins_takes_nothing_from_one_that_is_there() -> None:
    members = Members("me", 10)
    assert members.plan(taken(*["other"] * LANES), {}, 0) == Plan((), (), 0)
    assert members.plan(taken(*["other"] * LANES), {}, 10) == Plan((), (), 0)


def test_process_that_hears_of_another_gives_half() -> None:
    members = Members("me", 10)
    assert members.hear("other", 0)
    assert not members.hear("other", 1)
    assert not members.hear("me", 1)
    plan = members.plan(taken(*["me"] * LANES), mine(*range(LANES)), 1)
    assert plan == Plan((), (), LANES // 2)


def test_lanes_of_a_process_that_is_gone_are_freed_and_taken() -> None:
    members = Members("me", 10)
    members.plan(taken(*["dead"] * LANES), {}, 0)
    plan = members.plan(taken(*["dead"] * LANES), {}, 10.5)
    assert plan.remove == tuple(taken(*["dead"] * LANES).values())
    assert plan.take == tuple(range(LANES))


def test_what_this_process_left_when_it_was_killed_is_freed_at_once() -> None:
    found = {3: Taken(3, "lane-3-before", "me"), 4: Taken(4, "lane-4-me", "me")}
    plan = Members("me", 10).plan(found, mine(4), 0)
    assert plan.remove == (found[3],)
    assert 3 in plan.take
    assert 4 not in plan.take


def test_process_that_left_counts_no_more() -> None:
    members = Members("me", 10)
    members.hear("other", 0)
    members.forget("other")
    assert members.plan({}, {}, 0).take == tuple(range(LANES))
