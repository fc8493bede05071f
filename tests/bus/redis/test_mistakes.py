"""The tests of the bus over Redis find what is left out of it."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import pytest
from attrs import frozen

from sagaflow.redis import session, transport
from sagaflow.redis.scripts import Script
from tests.bus.redis import test_redis_bus as proofs
from tests.bus.redis.servers import RedisServer, client_of
from tests.bus.redis.test_redis_bus import Opened


@frozen
class Mistake:
    """A part of a script that is missing, or another.

    :ivar found_by: the test that tells of it; others may, too.
    """

    script: Literal["OPEN", "TURN", "PUBLISH"]
    right: str
    wrong: str
    found_by: str


MISTAKES = {
    "forgets what was published": Mistake(
        "PUBLISH",
        "or redis.call('EXISTS', mark) == 1",
        "",
        "message_that_is_published_twice_is_handled_once",
    ),
    "marks by the id alone": Mistake(
        "PUBLISH", "ARGV[3] .. '\\n' ..", "", "messages_of_different_classes_may_have_one_id"
    ),
    "marks before it has published": Mistake(
        "PUBLISH",
        "for _, service in",
        "redis.call('SET', mark, '1', 'PX', ARGV[2])\nfor _, service in",
        "publication_that_was_refused_half_way_can_be_tried_again",
    ),
    "marks for ever": Mistake(
        "PUBLISH", ", 'PX', ARGV[2]", "", "published_id_is_remembered_for_a_while_only"
    ),
    "leaves the session of a killed process": Mistake(
        "OPEN", "    finish(session)", "", "process_that_is_started_again_goes_on_at_once"
    ),
    "takes another owner for itself": Mistake(
        "OPEN",
        "string.sub(session, 1, -34)",
        "string.sub(session, 1, #ARGV[3])",
        "process_that_is_started_again_goes_on_at_once",
    ),
    "settles for a session that was lost": Mistake(
        "TURN",
        "not redis.call('ZSCORE', sessions, session)",
        "false",
        "process_that_has_lost_its_session_stops_and_changes_nothing",
    ),
    "settles what another holds": Mistake(
        "TURN",
        "if is_held and",
        "if",
        "outcome_that_is_told_again_does_not_disturb_who_has_the_message_now",
    ),
    "settles another message of the lane": Mistake(
        "TURN",
        "and redis.call('LINDEX', lane_of(lane), 0) == id",
        "",
        "outcome_whose_answer_was_lost_is_told_again",
    ),
    "keeps what the process does not know of": Mistake(
        "TURN",
        "if not kept[lane]",
        "if false",
        "messages_whose_answer_was_lost_are_handed_out_again",
    ),
    "leaves entries": Mistake(
        "TURN", "redis.call('XDEL', stream, id)", "", "nothing_is_left_of_what_was_handled"
    ),
    "does not acknowledge": Mistake(
        "TURN", "redis.call('XACK', stream, group, id)", "", "nothing_is_left_of_what_was_handled"
    ),
    "leaves counts of failures": Mistake(
        "TURN", "redis.call('HDEL', failing, lane)", "", "nothing_is_left_of_what_was_handled"
    ),
    "forgets failures": Mistake(
        "TURN",
        "redis.call('HGET', failing, lane) or ''",
        "''",
        "count_of_failures_outlives_the_process",
    ),
    "does not renew": Mistake(
        "TURN",
        "redis.call('ZADD', sessions, now + ARGV[4], session)",
        "",
        "message_is_held_for_as_long_as_it_takes",
    ),
    "leaves what the dead have held": Mistake(
        "TURN",
        "  finish(other)",
        "",
        "message_of_a_dead_process_is_handed_out_when_its_lease_ends",
    ),
    "makes no group": Mistake(
        "TURN",
        "redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')",
        "is_empty = true",
        "group_that_was_removed_is_made_again",
    ),
    "makes a group that begins at the end": Mistake(
        "TURN",
        "group, '0', 'MKSTREAM'",
        "group, '$', 'MKSTREAM'",
        "group_that_was_removed_is_made_again",
    ),
    "stops at an entry that was removed": Mistake(
        "TURN",
        "    id = redis.call('LINDEX', lane_of(lane), 0)\n",
        "    id = nil\n",
        "entry_that_was_removed_is_passed_over",
    ),
    "does nothing without memory": Mistake(
        "TURN",
        "flags=allow-oom",
        "",
        "server_without_memory_refuses_messages_and_lets_go_of_them",
    ),
    "hands Lua too many words": Mistake(
        "TURN", "math.min(#entry[2], 2000)", "#entry[2]", "entry_of_a_stranger_is_a_dead_letter"
    ),
}


async def proof(name: str, server: RedisServer, given: dict[str, Any]) -> None:
    """Run a test of the bus with what it asks for."""
    test: Any = getattr(proofs, f"test_{name}")
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    with client_of(server) as plain, anyio.fail_after(3):
        await test(**{one: given.get(one, plain) for one in names})


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_a_script_is_found(
    mistake: Mistake,
    redis_server: RedisServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    where: Any = transport if mistake.script == "PUBLISH" else session
    right: str = getattr(where, mistake.script).text
    assert mistake.right in right
    wrong = Script(right.replace(mistake.right, mistake.wrong))
    monkeypatch.setattr(where, mistake.script, wrong)
    given = {
        "opened": Opened(redis_server.uri, prefix),
        "monkeypatch": monkeypatch,
        "caplog": caplog,
        "fields": {f"field-{number}": "x" for number in range(5_000)},
    }
    with pytest.raises(Exception):  # noqa: B017 - the test has failed, however it did
        anyio.run(proof, mistake.found_by, redis_server, given)
