"""The payment service: it charges customers, and keeps books of its own.

sagaflow run examples.shop.payments:payments --service payments
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

from bson import Decimal128
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from examples.shop.messages import MESSAGES, PaymentDeclined, PaymentProcessed, ProcessPayment
from sagaflow import Envelope
from sagaflow.worker import Worker

Books = AsyncCollection[dict[str, Any]]
MOST = Decimal(1000)


@asynccontextmanager
async def opened_books() -> AsyncGenerator[Books]:
    """Connect to the books: an entry for each charge. What was entered outlives a crash."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        os.environ["SAGAFLOW_MONGODB_URI"], w="majority", journal=True
    )
    async with client:
        yield client[os.environ["SAGAFLOW_DATABASE"]]["payment_books"]


@asynccontextmanager
async def payments(worker: Worker) -> AsyncGenerator[None]:
    """Set up a process of the payment service."""
    worker.messages = MESSAGES
    async with opened_books() as books:

        @worker.bus.subscribe(ProcessPayment, envelope=True)
        async def pay(envelope: Envelope[ProcessPayment]) -> PaymentProcessed | PaymentDeclined:
            command = envelope.body
            if command.amount > MOST:
                return PaymentDeclined(command.order_id, f"more than {MOST}")
            charge = {
                "_id": envelope.id,  # the same, however often the command is delivered
                "order_id": command.order_id,
                "amount": Decimal128(command.amount),
            }
            with suppress(DuplicateKeyError):  # it is charged already, and has the same answer
                await books.insert_one(charge)
            return PaymentProcessed(command.order_id, f"t-{envelope.id}")

        yield
