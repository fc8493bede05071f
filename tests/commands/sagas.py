"""A saga for the tests of the commands; what runs of it is noted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import frozen

from sagaflow import (
    Context,
    Saga,
    Secret,
    State,
    compensates,
    during,
    during_any,
    initially,
    migrates,
)

RAN: list[str] = []
"""The handlers that ran in this process."""


@frozen
class Asked:
    number: str


@frozen
class Granted:
    number: str


@frozen
class Withdrawn:
    number: str


@frozen
class Remind:
    number: str


class Loan(Saga, correlate_by="number"):
    open = State()
    held = State()
    closed = State(final=True)
    refused = State(final=True)

    number: str = ""
    amount: int = 0

    @initially.on(Asked).goto(open)
    def ask(self, event: Asked, ctx: Context) -> None:
        RAN.append("ask")
        ctx.send(Remind(event.number))

    @during(open).on(Granted).goto(held)
    def hold(self, event: Granted, ctx: Context) -> None:
        RAN.append("hold")

    @compensates(hold)
    def release(self, event: Granted, ctx: Context) -> None:
        RAN.append("release")
        ctx.send(Remind(event.number))

    late = during(open).after(timedelta(minutes=5)).goto(refused)
    close = during(held).on(Withdrawn).goto(closed)
    stop = during_any.on(Withdrawn).compensate().goto(refused)


class Renewed(Saga, correlate_by="number", name="Loan", schema=2):
    """What `Loan` became."""

    begun = State()
    lent = State()
    ended = State(final=True)

    number: str = ""
    amount: int = 0
    pin: Secret[str] = "0000"

    ask = initially.on(Asked).goto(begun)
    lend = during(begun).on(Granted).goto(lent)
    end = during_any.on(Withdrawn).goto(ended)

    @migrates(1, 2, renamed={"open": "begun", "held": "lent", "hold": "lend"})
    @staticmethod
    def renew(data: dict[str, Any]) -> None:
        data["pin"] = f"{int(data['amount']):04}"


class Other(Saga, correlate_by="number"):
    """There are two in this module."""

    open = State()
    done = State(final=True)
    begin = initially.on(Asked).goto(open)
    end = during(open).on(Withdrawn).goto(done)


MESSAGES = (Remind,)
NAMED = {"remind": Remind}
TEXT = "no classes"
