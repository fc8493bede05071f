"""An operation that is cancelled once, whatever its cancel scope does."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from sagaflow._concurrency.single_cancellation import cancelled_once


def test_result_and_error_reach_the_caller() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        assert await cancelled_once(answer()) == 7
        with pytest.raises(ValueError, match="no"):
            await cancelled_once(fail())

    anyio.run(main)


def test_operation_sees_one_cancellation_and_ends_before_its_caller() -> None:
    async def main() -> None:
        said: list[str] = []

        async def operate() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                said.append("cancelled")
                for _ in range(5):
                    await asyncio.sleep(0)  # a scope of anyio would cancel these as well
                said.append("cleaned up")
                raise

        with anyio.move_on_after(0.05) as scope:
            await cancelled_once(operate())
        assert scope.cancelled_caught
        assert said == ["cancelled", "cleaned up"]

    anyio.run(main)


def test_failure_of_a_cancelled_operation_is_not_reported_as_forgotten() -> None:
    async def main() -> list[dict[str, object]]:
        reported: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))

        async def operate() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise ValueError("while it ended")

        with anyio.move_on_after(0.05):
            await cancelled_once(operate())
        return reported

    assert anyio.run(main) == []
