"""Who sends what with whom, and what becomes of those who give up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from sagaflow.mongo.batches import Batches, UnknownResultError, WriteResult

pytestmark = pytest.mark.anyio


class Store:
    """Keeps batches on the wire until it is told to answer."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.answers: list[anyio.Event] = []
        self.fails_with: BaseException | None = None

    async def send(self, items: Sequence[str]) -> Sequence[WriteResult]:
        self.batches.append(list(items))
        answer = anyio.Event()
        self.answers.append(answer)
        await answer.wait()
        if self.fails_with is not None:
            raise self.fails_with
        return [item.isupper() for item in items]

    async def send_one(self, item: str) -> WriteResult:
        (fate,) = await self.send([item])
        return fate

    def answer(self, number: int) -> None:
        self.answers[number].set()


class Callers:
    """Tasks that each have one write, and what they were told."""

    def __init__(self, store: Store, *, most: int = 9, at_once: int = 1) -> None:
        self.batches: Batches[str] = Batches(store.send, store.send_one, most=most, at_once=at_once)
        self.told: dict[str, WriteResult] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def write(self, item: str) -> None:
        with anyio.CancelScope() as scope:
            self.scopes[item] = scope
            try:
                self.told[item] = await self.batches.submit(item)
            except LookupError as exc:
                self.told[item] = exc


async def test_single_write_is_sent_at_once_and_alone() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.write, "A")
        await wait_all_tasks_blocked()
        assert store.batches == [["A"]]
        store.answer(0)
    assert callers.told == {"A": True}


async def test_what_arrives_while_a_batch_is_under_way_is_sent_together_as_the_next() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "AbC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        assert store.batches == [["A"]]
        store.answer(0)
        await wait_all_tasks_blocked()
        assert store.batches == [["A"], ["b", "C"]]
        assert callers.told == {"A": True}
        store.answer(1)
    assert callers.told == {"A": True, "b": False, "C": True}


async def test_who_was_alone_the_last_time_does_not_wait_for_others() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.write, "A")
        await wait_all_tasks_blocked()
        store.answer(0)
        await wait_all_tasks_blocked()
        for _ in range(2):  # now others have come at the same time
            for item in "BCD":
                tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
            store.answer(len(store.batches) - 1)
            await wait_all_tasks_blocked()
            store.answer(len(store.batches) - 1)
            await wait_all_tasks_blocked()
    sent = ["".join(sorted(batch)) for batch in store.batches]
    assert [len(batch) for batch in sent] == [1, 1, 2, 3]


@pytest.mark.parametrize("ends", ["told", "failed", "cancelled"])
async def test_who_comes_while_a_single_write_is_under_way_is_sent_however_that_ends(
    ends: str,
) -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "AB":  # the second knows that nobody comes along
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
            if item == "A":
                store.answer(0)
                await wait_all_tasks_blocked()
        for item in "CD":
            tasks.start_soon(callers.write, item)
        await wait_all_tasks_blocked()
        assert store.batches == [["A"], ["B"]]
        if ends == "cancelled":
            callers.scopes["B"].cancel()
        else:
            store.fails_with = LookupError("no") if ends == "failed" else None
            store.answer(1)
        await wait_all_tasks_blocked()
        assert [sorted(batch) for batch in store.batches[2:]] == [["C", "D"]]
        store.fails_with = None
        store.answer(2)
    told = {"told": True, "failed": "no", "cancelled": None}[ends]
    assert str(callers.told.get("B")) == str(told)
    assert (callers.told["C"], callers.told["D"]) == (True, True)


async def test_what_is_ready_at_the_same_time_is_sent_together() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
        await wait_all_tasks_blocked()
        assert [sorted(batch) for batch in store.batches] == [["A", "B", "C"]]
        store.answer(0)


async def test_number_of_writes_in_a_batch_and_of_batches_under_way_is_bounded() -> None:
    store = Store()
    callers = Callers(store, most=2, at_once=2)
    async with anyio.create_task_group() as tasks:
        for item in "ABCDEFG":
            tasks.start_soon(callers.write, item)
        await wait_all_tasks_blocked()
        assert [len(batch) for batch in store.batches] == [2, 2]
        store.answer(1)
        await wait_all_tasks_blocked()
        assert [len(batch) for batch in store.batches] == [2, 2, 2]
        store.answer(2)
        await wait_all_tasks_blocked()
        store.answer(3)
        await wait_all_tasks_blocked()
        assert len(callers.told) == 5
        store.answer(0)
    assert sorted(item for batch in store.batches for item in batch) == list("ABCDEFG")
    assert len(callers.told) == 7


async def test_failure_of_a_batch_is_the_fate_of_all_in_it_and_of_nobody_else() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        store.answer(0)
        await wait_all_tasks_blocked()
        store.fails_with = LookupError()
        tasks.start_soon(callers.write, "D")
        store.answer(1)
        await wait_all_tasks_blocked()
        store.fails_with = None
        store.answer(2)
    assert callers.told["A"] is True
    assert callers.told["B"] is callers.told["C"]
    assert isinstance(callers.told["B"], LookupError)
    assert callers.told["D"] is True


async def test_failure_of_a_single_write_is_raised() -> None:
    store = Store()
    store.fails_with = LookupError()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.write, "A")
        await wait_all_tasks_blocked()
        store.answer(0)
    assert callers.told == {"A": store.fails_with}


# Giving up


async def test_caller_who_gives_up_waiting_writes_nothing() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        callers.scopes["B"].cancel()
        await wait_all_tasks_blocked()
        store.answer(0)
        await wait_all_tasks_blocked()
        store.answer(1)
    assert store.batches == [["A"], ["C"]]
    assert callers.told == {"A": True, "C": True}


async def test_caller_who_gives_up_while_others_send_for_it_disturbs_nobody() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        store.answer(0)
        await wait_all_tasks_blocked()
        callers.scopes["C"].cancel()
        await wait_all_tasks_blocked()
        store.answer(1)
    assert store.batches == [["A"], ["B", "C"]]
    assert callers.told == {"A": True, "B": True}


async def test_caller_who_gives_up_while_it_sends_for_others_does_so_once_they_have_their_answer(
    anyio_backend: str,
) -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        store.answer(0)
        await wait_all_tasks_blocked()
        callers.scopes["B"].cancel()
        await wait_all_tasks_blocked()
        assert "C" not in callers.told
        store.answer(1)
    assert store.batches == [["A"], ["B", "C"]]
    assert callers.told["C"] is True


async def test_caller_who_gives_up_while_it_sends_for_itself_does_so_at_once() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.write, "A")
        await wait_all_tasks_blocked()
        tasks.start_soon(callers.write, "B")
        await wait_all_tasks_blocked()
        callers.scopes["A"].cancel()
        await wait_all_tasks_blocked()
        assert store.batches == [["A"], ["B"]]
        store.answer(1)
    assert callers.told == {"B": True}


async def test_caller_who_gives_up_as_its_turn_to_send_comes_hands_it_over() -> None:
    store = Store()
    callers = Callers(store)
    async with anyio.create_task_group() as tasks:
        for item in "ABC":
            tasks.start_soon(callers.write, item)
            await wait_all_tasks_blocked()
        callers.scopes["A"].cancel()  # it was alone: now B is to send
        callers.scopes["B"].cancel()
        await wait_all_tasks_blocked()
        store.answer(len(store.answers) - 1)
        await wait_all_tasks_blocked()
        store.answer(len(store.answers) - 1)
    assert callers.told["C"] is True
    assert "A" not in callers.told


async def test_leader_that_a_task_of_asyncio_is_cancelled_in_leaves_no_one_waiting(
    anyio_backend: str,
) -> None:
    """`asyncio.Task.cancel` knows of no shield: the others hear that nobody knows."""
    if anyio_backend != "asyncio":
        pytest.skip("about asyncio")
    store = Store()
    callers = Callers(store)
    leader = asyncio.create_task(callers.write("A"))
    follower = asyncio.create_task(callers.write("B"))
    await wait_all_tasks_blocked()
    assert store.batches == [["A", "B"]]
    leader.cancel()
    await asyncio.wait([leader, follower])
    assert leader.cancelled()
    fate = callers.told["B"]
    assert isinstance(fate, UnknownResultError)
    assert str(fate) == "whoever sent it was stopped before the answer came"
    third = asyncio.create_task(callers.write("C"))
    await wait_all_tasks_blocked()
    store.answer(1)
    await third
    assert callers.told["C"] is True


async def test_leader_that_is_cancelled_before_it_sends_hands_over(anyio_backend: str) -> None:
    if anyio_backend != "asyncio":
        pytest.skip("about asyncio")
    store = Store()
    callers = Callers(store)
    leader = asyncio.create_task(callers.write("A"))
    follower = asyncio.create_task(callers.write("B"))
    await asyncio.sleep(0)
    assert store.batches == []  # it lets others come along
    leader.cancel()
    await wait_all_tasks_blocked()
    assert store.batches == [["B"]]
    store.answer(0)
    await asyncio.wait([leader, follower])
    assert callers.told == {"B": True}


async def test_many_writes_at_once_are_each_told_their_own_fate() -> None:
    batches: Batches[int]
    sent: list[int] = []

    async def send(items: Sequence[int]) -> Sequence[WriteResult]:
        sent.append(len(items))
        await checkpoint()
        return [item % 3 == 0 for item in items]

    async def send_one(item: int) -> WriteResult:
        (fate,) = await send([item])
        return fate

    batches = Batches(send, send_one, most=10, at_once=3)
    told: dict[int, WriteResult] = {}

    async def write(item: int) -> None:
        for _ in range(item % 4):
            await checkpoint()
        told[item] = await batches.submit(item)

    async with anyio.create_task_group() as tasks:
        for item in range(200):
            tasks.start_soon(write, item)
    assert told == {item: item % 3 == 0 for item in range(200)}
    assert sum(sent) == 200
    assert max(sent) <= 10
