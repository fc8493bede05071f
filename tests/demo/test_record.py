"""What a database says about its demo: begun once, continued as it was begun."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import pymongo
import pytest
from click.testing import CliRunner

from sagaflow.abc import SagaRepository
from sagaflow.cli import main
from sagaflow.demo.example import orders
from sagaflow.demo.record import begin, resume
from sagaflow.demo.settings import Settings
from sagaflow.exceptions import SagaflowError
from sagaflow.memory import MemoryRepository
from sagaflow.orchestrator import Orchestrator

ORDERED = Settings(orders=7, failures=0.3, seed=2**70)


@pytest.mark.anyio
async def test_a_demo_is_continued_as_it_was_begun(repository: SagaRepository) -> None:
    await begin(attrs.evolve(ORDERED, concurrency=3), repository, "shop")
    asked = Settings(concurrency=9, crash=True, resume=True, database="shop")
    found = await resume(asked, repository, "shop")
    assert found == attrs.evolve(asked, orders=7, failures=0.3, seed=2**70)


@pytest.mark.anyio
async def test_what_is_said_again_must_agree(anyio_backend: str) -> None:
    repository = MemoryRepository()
    await begin(ORDERED, repository, "shop")
    same = attrs.evolve(ORDERED, given=frozenset({"orders", "failures", "seed"}))
    assert await resume(same, repository, "shop") == same
    other = attrs.evolve(same, orders=8)
    with pytest.raises(SagaflowError, match="was begun with --orders 7, not 8: leave --orders out"):
        await resume(other, repository, "shop")


@pytest.mark.anyio
async def test_a_demo_is_begun_once(anyio_backend: str) -> None:
    repository = MemoryRepository()
    await begin(ORDERED, repository, "shop")
    with pytest.raises(
        SagaflowError, match=r"there is a demo .* 'shop': continue it with --resume"
    ):
        await begin(ORDERED, repository, "shop")


@pytest.mark.anyio
async def test_of_two_that_begin_at_once_one_is_refused(anyio_backend: str) -> None:
    """The other may begin between the look and the note."""

    class Late(MemoryRepository):
        async def count_states(self, saga: str) -> dict[str, int]:
            counted = await super().count_states(saga)
            await begin(ORDERED, other, "shop")
            return counted

    other, late = MemoryRepository(), Late()
    other._collections = late._collections  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(SagaflowError, match="there is a demo"):
        await begin(ORDERED, late, "shop")


@pytest.mark.anyio
async def test_sagas_of_others_are_left_alone(anyio_backend: str) -> None:
    repository = MemoryRepository()
    async with Orchestrator([orders.OrderSaga], repository) as orchestrator:
        await orchestrator.handle(orders.OrderPlaced("theirs", Decimal(5)))
    with pytest.raises(SagaflowError, match="has a collection OrderSaga that is not of a demo"):
        await begin(ORDERED, repository, "shop")
    with pytest.raises(SagaflowError, match="there is no demo in the database 'shop'"):
        await resume(ORDERED, repository, "shop")


GOOD: dict[str, Any] = {"orders": 7, "failures": 0.3, "seed": "1"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        {"orders": 0},
        {"orders": "7"},
        {"failures": 1.5},
        {"failures": None},
        {"seed": "x"},
        {"seed": 1},
    ],
    ids=str,
)
async def test_a_record_of_something_else_is_refused(
    anyio_backend: str, wrong: dict[str, Any]
) -> None:
    repository = MemoryRepository()
    await repository.insert_document("sagaflow_demo", {"_id": "settings"} | GOOD | wrong)
    with pytest.raises(SagaflowError, match=r"sagaflow_demo .* 'shop' is not of a demo"):
        await resume(ORDERED, repository, "shop")


# As it is typed


@pytest.fixture
def database(
    mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[str]:
    """A database that is removed at the end."""
    yield database_name
    mongodb_client.drop_database(database_name)


def refused(*arguments: str) -> str:
    """Run the demo, which must end with one line; return it."""
    result = CliRunner().invoke(main, ["demo", *arguments], prog_name="sagaflow")
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("more", [(), ("--crash", "--runtime", "trio")])
def test_an_unknown_database_is_named_and_not_made(
    more: tuple[str, ...],
    mongodb_uri: str,
    database: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
) -> None:
    line = refused("--mongodb", mongodb_uri, "--database", database, "--resume", *more)
    assert f"there is no demo in the database '{database}'" in line
    assert database not in mongodb_client.list_database_names()


def test_a_database_that_is_not_of_a_demo_is_refused_and_left_alone(
    mongodb_uri: str, database: str, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    collection = mongodb_client[database]["OrderSaga"]
    collection.insert_one({"_id": "theirs", "state": "waiting"})
    arguments = ("--mongodb", mongodb_uri, "--database", database)
    assert "there is no demo in the database" in refused(*arguments, "--resume")
    assert "is not of a demo: choose another one" in refused(*arguments)
    assert mongodb_client[database].list_collection_names() == ["OrderSaga"]
    assert collection.find_one() == {"_id": "theirs", "state": "waiting"}


def test_a_second_demo_in_a_database_is_refused(mongodb_uri: str, database: str) -> None:
    arguments = ("--mongodb", mongodb_uri, "--database", database, "--orders", "3")
    first = CliRunner().invoke(main, ["demo", "--seed", "5", *arguments])
    assert first.exit_code == 0
    assert f"--database {database} --resume continues it" in first.output
    assert "continue it with --resume, or choose another one" in refused(*arguments)
    assert "begun with --seed 5, not 6" in refused(*arguments, "--resume", "--seed", "6")
    again = CliRunner().invoke(main, ["demo", *arguments, "--resume", "--seed", "5"])
    assert again.exit_code == 0
    assert "3 of the orders have been placed before" in again.output


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "x" * 70])
def test_a_name_that_no_database_can_have_is_refused(name: str, mongodb_uri: str) -> None:
    assert refused("--mongodb", mongodb_uri, "--database", name)
