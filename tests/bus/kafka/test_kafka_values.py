"""What the bus over Kafka reads and writes, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from sagaflow._model.verdict import Undeliverable
from sagaflow.exceptions import BusError
from sagaflow.kafka import KafkaBus
from sagaflow.kafka.names import is_letter_id, letter_id_of, member_of
from sagaflow.kafka.progress import (
    MOST_AHEAD,
    Failure,
    Marks,
    Progress,
    Start,
    read_start,
    write_told,
)
from sagaflow.kafka.records import Record, key_of, letter_of, read_letter, read_record
from sagaflow.kafka.session import Memory
from sagaflow.kafka.uris import servers_of
from sagaflow.testing._bus_contract.kit import MESSAGES

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@frozen
class Message:
    """What the client hands out."""

    of_key: bytes | None = None
    of_value: bytes | None = b"{}"
    of_headers: list[tuple[str, bytes | None]] | None = None

    def key(self) -> bytes | None:
        return self.of_key

    def value(self) -> bytes | None:
        return self.of_value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.of_headers

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_000


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("localhost:9092", "begins with kafka://"),
        ("http://localhost", "begins with kafka://"),
        ("", "begins with kafka://"),
        (b"kafka://localhost", "begins with kafka://"),
        ("kafka://", "names no broker"),
        ("kafka://me:secret@", "names no broker"),
        ("kafka://localhost:0", "names no broker"),
        ("kafka://one,,two", "names no broker"),
        ("kafka://localhost/orders", "nothing behind the brokers"),
        ("kafka://localhost:secret", "percent-encode"),
        ("kafka://me:sec/ret@localhost", "percent-encode"),
        ("kafka://me:sec@ret@localhost", "percent-encode"),
        ("kafka://me:7#secret@localhost", "percent-encode"),
        ("kafka://me:7?secret@localhost", "percent-encode"),
        ("kafka://[::1", "percent-encode"),
        ("kafka://localhost?ssl.ca.location", "percent-encode"),
        ("kafka://localhost?acks=0", "'acks'"),
        ("kafka://localhost?sasl.password=secret", "'sasl.password'"),
        ("kafka://localhost?ssl.key.pem=secret", "'ssl.key.pem'"),
        ("kafka://localhost?ssl.nothing=secret", "ssl.nothing"),
        ("kafka://localhost?socket.timeout.ms=soon", "socket.timeout.ms"),
    ],
)
def test_wrong_uri_is_refused_in_one_line_without_secrets(uri: Any, said: str) -> None:
    with pytest.raises(BusError, match=said) as caught:
        KafkaBus(uri, service="shop", messages=MESSAGES)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "place", "settings"),
    [
        ("kafka://localhost", "localhost:9092", {"security.protocol": "PLAINTEXT"}),
        ("kafka://one:1, two:2/", "one:1,two:2", {"security.protocol": "PLAINTEXT"}),
        ("kafkas://[::1]:9093", "[::1]:9093", {"security.protocol": "SSL"}),
        (
            "kafkas://me:s%2Cr%40t@one:1,two?sasl.mechanism=SCRAM-SHA-512",
            "one:1,two:9092",
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "me",
                "sasl.password": "s,r@t",
            },
        ),
        (
            "kafka://me:pw@one",
            "one:9092",
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me",
                "sasl.password": "pw",
            },
        ),
    ],
)
def test_uri_says_where_brokers_are(uri: str, place: str, settings: dict[str, str]) -> None:
    found = servers_of(uri)
    assert (found.place, found.settings) == (place, {"bootstrap.servers": place, **settings})
    assert "s,r@t" not in repr(found)
    assert "r@t" not in repr(KafkaBus(uri, service="shop", messages=MESSAGES))


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"prefix": "with space"}, BusError),
        ({"prefix": ""}, BusError),
        ({"service": "a/b"}, BusError),
        ({"owner": ""}, BusError),
        ({"lease_duration": timedelta(0)}, ValueError),
        ({"handover_timeout": timedelta(0)}, ValueError),
        ({"operation_timeout": timedelta(seconds=-1)}, ValueError),
        ({"concurrency": 0}, ValueError),
    ],
)
def test_wrong_setting_is_refused(setting: dict[str, Any], error: type[Exception]) -> None:
    given: dict[str, Any] = {"service": "shop", "messages": MESSAGES, **setting}
    with pytest.raises(error):
        KafkaBus("kafka://localhost", **given)


def test_owner_is_a_name_that_kafka_takes() -> None:
    assert member_of("orders-1.host") == "orders-1.host"
    assert member_of("orders 1") != member_of("orders 2")
    assert member_of(member_of("orders 1")) == member_of("orders 1")


def test_id_of_a_dead_letter_is_its_place() -> None:
    assert is_letter_id(letter_id_of(3, 2**63 - 1))
    assert not is_letter_id("3-")
    assert not is_letter_id("another")


def test_what_is_committed_stops_before_the_first_that_is_not_done() -> None:
    progress = Progress(Start(0, 10))
    assert all(progress.take(offset) for offset in range(10, 15))
    for offset in (11, 12, 14):
        progress.finish(offset)
    reached = progress.reached()
    assert reached is not None
    assert (reached.offset, progress.in_hand, progress.ahead) == (10, 2, 5)
    again = Progress(read_start(0, reached.offset, reached.told))
    assert [offset for offset in range(10, 16) if again.take(offset)] == [10, 13, 15]
    again.finish(10)
    again.finish(13)
    found = again.reached()
    assert found is not None
    assert (found.offset, found.told) == (15, "")


def test_what_was_done_before_is_kept_until_it_comes() -> None:
    progress = Progress(Start(0, 10, Marks.of({12, 13}), {10: Failure(2, NOW)}))
    reached = progress.reached()
    assert reached is not None
    found = read_start(0, reached.offset, reached.told)
    assert [offset for offset in range(30) if offset in found.done] == [12, 13]
    assert found.failing == {10: Failure(2, NOW)}
    for offset in (10, 11):
        progress.take(offset)
    progress.finish(10)
    assert [offset for offset in range(11, 21) if progress.take(offset)] == [*range(14, 21)]
    assert Progress(Start(0, -1001)).reached() is None
    assert not progress.take(9), "it is before what was committed"


def test_places_that_are_no_more_are_passed_over() -> None:
    """What retention, compaction or a transaction has removed does not hold up what follows."""
    progress = Progress(Start(0, -1001))
    for offset in (100, 107):
        progress.take(offset)
        progress.finish(offset)
    reached = progress.reached()
    assert reached is not None
    assert reached.offset == 108


@settings(max_examples=50)
@given(
    st.sets(st.integers(min_value=1, max_value=MOST_AHEAD), max_size=200),
    st.dictionaries(
        st.integers(min_value=0, max_value=MOST_AHEAD),
        st.builds(Failure, st.integers(min_value=1, max_value=10**6), st.just(NOW)),
        max_size=60,
    ),
    st.integers(min_value=0, max_value=2**62),
)
def test_what_is_told_beside_an_offset_fits_and_is_true(
    places: set[int], failing: dict[int, Failure], offset: int
) -> None:
    done = Marks.of(offset + place for place in places)
    told = write_told(offset, done, {offset + place: one for place, one in failing.items()})
    assert len(told.encode()) <= 4096
    found = read_start(0, offset, told)
    cut = len(found.done.bits) * 8 + found.done.first - offset
    for place in range(0, MOST_AHEAD, 7):
        assert (offset + place in found.done) == (place in places and place < cut)
    assert {one - offset: failure for one, failure in found.failing.items()}.items() <= (
        failing.items()
    )


@given(st.permutations(range(30)), st.integers(min_value=0, max_value=30))
def test_progress_is_the_first_that_is_not_done(order: list[int], count: int) -> None:
    """Whatever the order in which messages are done, and whoever goes on."""
    progress = Progress(Start(0, 0))
    for offset in range(30):
        progress.take(offset)
    for offset in order[:count]:
        progress.finish(offset)
    left = sorted(order[count:])
    reached = progress.reached()
    assert reached is not None
    assert reached.offset == (left[0] if left else 30)
    assert progress.in_hand == len(left)
    again = Progress(read_start(0, reached.offset, reached.told))
    assert [offset for offset in range(30) if again.take(offset)] == left
    for offset in reversed(left):
        again.finish(offset)
    found = again.reached()
    assert found is not None
    assert (found.offset, found.told, again.in_hand) == (30, "", 0)


def test_what_is_done_is_told_however_much_it_is() -> None:
    """Where all but one are done, as behind one that is tried again for a day."""
    progress = Progress(Start(0, 0))
    for offset in range(MOST_AHEAD):
        progress.take(offset)
    for offset in range(1, MOST_AHEAD):
        progress.finish(offset)
    reached = progress.reached()
    assert reached is not None
    found = read_start(0, 0, reached.told).done
    assert 0 not in found
    assert all(offset in found for offset in range(1, MOST_AHEAD))


@pytest.mark.parametrize(
    "told",
    [
        None,
        "",
        "damaged",
        "[]",
        '{"first":0,"done":"","failing":[]}',
        '{"first":0,"done":"!","failing":{}}',
        '{"first":0,"done":"AAAA","failing":{}}',
        '{"first":0,"done":7,"failing":{}}',
        '{"first":0,"failing":{}}',
        '{"first":0,"done":"eJwDAAAAAAE=","failing":{"1":[1,"2026-01-01T00:00:00"]}}',
        '{"first":0,"done":"eJwDAAAAAAE=","failing":{"1":[1]}}',
    ],
)
def test_what_is_damaged_is_not_believed(told: str | None) -> None:
    assert read_start(2, 5, told) == Start(2, 5)


def test_record_of_a_stranger_is_read() -> None:
    record = read_record(Message(b"\xff", None, [("ce_id", None), ("name", b"\xe9")]))
    assert (record.key, record.body) == ("\udcff", b"")
    assert record.headers == {"ce_id": "", "name": "\udce9"}
    assert read_record(Message()).identity is None


def test_text_with_halves_of_characters_is_written() -> None:
    assert key_of("\udcff") == b"\xff"
    assert key_of("\ud800") == b"\xed\xa0\x80"
    assert key_of(None) is None


def test_dead_letter_is_its_message_and_why() -> None:
    record = read_record(Message(b"k", b"body", [("ce_id", b"1"), ("x", b"\xe9")]))
    headers = letter_of(record, Undeliverable("failed", "a\x00b"), 3, NOW)
    letter = read_letter("shop", Message(b"3-7", b"body", list(headers)))
    assert (letter.id, letter.key, letter.reason) == ("3-7", "k", "failed")
    assert (letter.detail, letter.attempts, letter.since) == ("a\\x00b", 3, NOW)
    assert (letter.headers, letter.body) == (record.headers, b"body")


@pytest.mark.parametrize("since", [b"soon", b"9" * 30, "٣".encode(), b"999999999999999"])
def test_damaged_dead_letter_is_shown(since: bytes) -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("sagaflow_since", since),
        ("sagaflow_attempts", b"x"),
    ]
    letter = read_letter("shop", Message(None, None, headers))
    assert (letter.id, letter.attempts, letter.body) == ("", 0, b"")
    assert letter.since == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_dead_letter_of_a_far_year_is_shown() -> None:
    letter = read_letter("shop", Message(b"1-1", b"", [("sagaflow_since", b"99999999999999")]))
    assert letter.since.year == 5138


def record_of(message_id: str | None) -> Record:
    headers = (
        {"ce_type": "Noted"} if message_id is None else {"ce_type": "Noted", "ce_id": message_id}
    )
    return Record(partition=0, offset=0, key=None, headers=headers, body=b"{}")


def test_the_last_ten_thousand_messages_are_recognised() -> None:
    memory = Memory()
    for number in range(10_001):
        memory.note(record_of(str(number)))
    assert not memory.knows(record_of("0"))
    assert all(memory.knows(record_of(str(number))) for number in (1, 10_000))


def test_messages_without_an_id_are_never_taken_for_one_another() -> None:
    memory = Memory()
    memory.note(record_of(None))
    assert not memory.knows(record_of(None))
