"""The web process: it stores an order and answers; the workers do the rest.

uvicorn examples.shop.web:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from examples.shop.messages import OrderPlaced
from examples.shop.saga import OrderSaga
from sagaflow import Orchestrator, WaitError, WaitTimeoutError
from sagaflow.exceptions import RepositoryError
from sagaflow.mongo import MongoRepository

ID = r"^[A-Za-z0-9_-]{1,64}$"


class NewOrder(BaseModel):
    """What is posted."""

    total: Decimal = Field(gt=0, le=1_000_000, decimal_places=2)


class Order(BaseModel):
    """What is shown of an order."""

    order_id: str
    total: Decimal
    state: str
    reason: str | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open the orchestrator. It has no bus: it takes events, and leaves sending to the workers."""
    uri, database = os.environ["SAGAFLOW_MONGODB_URI"], os.environ["SAGAFLOW_DATABASE"]
    async with (
        MongoRepository.connect(uri, database=database, serverSelectionTimeoutMS=5_000) as stored,
        Orchestrator([OrderSaga], stored, background=False) as orchestrator,
    ):
        app.state.orchestrator = orchestrator
        yield


async def the_orchestrator(request: Request) -> Orchestrator:
    """Return the orchestrator of this process."""
    found: Orchestrator = request.app.state.orchestrator
    return found


app = FastAPI(title="A shop", lifespan=lifespan)
TheOrchestrator = Annotated[Orchestrator, Depends(the_orchestrator)]


@app.post("/orders", status_code=202)
async def post_order(
    order: NewOrder,
    orchestrator: TheOrchestrator,
    response: Response,
    idempotency_key: Annotated[str | None, Header(pattern=ID)] = None,
) -> dict[str, str]:
    """Take an order; who posts it twice with one ``Idempotency-Key`` has ordered once."""
    order_id = idempotency_key or str(uuid4())
    event = OrderPlaced(order_id, order.total)
    await orchestrator.handle(event, message_id=f"placed-{order_id}", wait=False)
    response.headers["Location"] = f"/orders/{order_id}"
    return {"order_id": order_id}


@app.get("/orders/{order_id}")
async def get_order(
    order_id: Annotated[str, Path(pattern=ID)],
    orchestrator: TheOrchestrator,
    wait: Annotated[float, Query(ge=0, le=30)] = 0,
) -> Order:
    """Show an order; with ``wait=``, up to so many seconds later, once it has ended."""
    if wait:
        with suppress(WaitError, WaitTimeoutError):  # it is shown as it is by then
            limit = timedelta(seconds=wait)
            await orchestrator.wait_for(OrderSaga, order_id, finished=True, timeout=limit)
    found = await orchestrator.find(OrderSaga, order_id)
    if found is None:
        raise HTTPException(404, f"there is no order {order_id}")
    saga = found.saga
    return Order(order_id=order_id, total=saga.total, state=found.state.name, reason=saga.reason)


@app.exception_handler(RepositoryError)
async def unavailable(_request: Request, _error: Exception) -> JSONResponse:
    """Say that the database has not answered. With the same key, the order may be posted again."""
    return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": "5"})
