"""The checks on a saga's document notice what an engine with a mistake would leave there."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import anyio
import pytest
from attrs import evolve

from sagaflow.testing import Deliver, ManualClock
from sagaflow.testing._exploring.explore import NOBODY, subject_of
from sagaflow.testing._exploring.runner import Ran
from sagaflow.testing._exploring.world import World
from tests.exploring.sagas import Begun, Left, Right, Stopped, Undoing

SUBJECT = subject_of(Undoing, NOBODY, (), (), None, ())


def undone() -> Ran:
    """Return how a saga ends that was stopped after two steps."""

    async def run() -> Ran:
        ran = Ran(world=World(now=ManualClock().now()), said="")
        for event in (Begun(), Left(), Right(), Stopped()):
            ran = await SUBJECT.runner.run(ran.world, Deliver(event, type(event).__name__))
        return ran

    return anyio.run(run)


def problems(change: Callable[[dict[str, Any]], object]) -> list[str]:
    ran = undone()
    document = deepcopy(ran.world.documents[0])
    change(document)
    changed = evolve(ran, world=evolve(ran.world, documents=(document,)))
    return [problem.text for problem in SUBJECT.checks.after(changed)]


def compensations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in document["history"] if entry["event"] == "compensation"]


def test_what_the_engine_leaves_is_right() -> None:
    assert problems(lambda document: None) == []


def twice(document: dict[str, Any]) -> None:
    document["history"].append(compensations(document)[-1])


def out_of_order(document: dict[str, Any]) -> None:
    second, first = compensations(document)
    document["history"][-2:] = [first, second]


def skipped(document: dict[str, Any]) -> None:
    document["history"].remove(compensations(document)[0])


def left_pending(document: dict[str, Any]) -> None:
    document["compensations"][0]["status"] = "pending"
    document["history"].remove(compensations(document)[1])


def never_happened(document: dict[str, Any]) -> None:
    document["history"] = [e for e in document["history"] if e["message_id"] != "Left"]
    document["history"].append({**compensations(document)[0], "step": "first", "message_id": "X"})


def vanished(document: dict[str, Any]) -> None:
    document["history"] = [e for e in document["history"] if e["message_id"] != "Stopped"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (twice, "undone were second, first, first, where second, first was to be undone"),
        (out_of_order, "undone were first, second, where second, first was to be undone"),
        (skipped, "undone were first, where second, first was to be undone"),
        (left_pending, "the saga ended in failed and has not undone first"),
        (never_happened, "first was undone and has never happened"),
        (vanished, "Undoing accepted Stopped, and it is neither handled nor kept in failed"),
    ],
)
def test_mistake_of_an_engine_is_noticed(
    change: Callable[[dict[str, Any]], None], said: str
) -> None:
    assert [text for text in problems(change) if text.startswith(said)] != []
