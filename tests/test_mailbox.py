"""A mailbox by itself; what it is good for is in `tests/semantics/test_group_commit.py`."""

from __future__ import annotations

from typing import Any

import pytest

from sagaflow._runtime.mailbox import Fate, Letter, Mailbox
from sagaflow._runtime.removals import Removals
from tests.contract.records import Parcel
from tests.engine.support import record

pytestmark = pytest.mark.anyio


@pytest.fixture
def letter() -> Letter:
    """An event whose turn it is, and which rests on a batch that was not stored."""
    nothing: Any = None  # nothing may be written
    removals = Removals(nothing, nothing, nothing)
    box = Mailbox(("Parcel", str, "p"), {}, Parcel, nothing, nothing, removals, epoch=1)
    box.holder = Letter(box, waits=True, epoch=0)
    return box.holder


async def test_event_that_rests_on_a_lost_batch_is_not_folded_into_another(
    letter: Letter, anyio_backend: str
) -> None:
    before, after = record(version=1), record(version=2)
    await letter.box.fold(letter, before, after)
    assert letter.fate is Fate.LOST
    assert letter.box.batch == []


async def test_event_that_rests_on_a_lost_batch_writes_nothing(
    letter: Letter, anyio_backend: str
) -> None:
    letter.box.batch = [Letter(letter.box, waits=True)]
    assert not await letter.box.flush(letter)
    assert len(letter.box.batch) == 1
