"""Commands as an application might arrange them: in a module of their own, and within a class."""

from __future__ import annotations

from attrs import frozen


@frozen
class Charge:
    order: str
    amount: int = 0


@frozen
class Refund:
    order: str


@frozen
class Unmentioned:
    order: str


class Stock:
    """Commands to the warehouse."""

    @frozen
    class Reserve:
        order: str

    @frozen
    class Release:
        order: str
