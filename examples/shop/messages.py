"""What the programs of the shop say to one another."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen


@frozen
class OrderPlaced:
    order_id: str
    total: Decimal


@frozen
class ProcessPayment:
    order_id: str
    amount: Decimal


@frozen
class PaymentProcessed:
    order_id: str
    transaction_id: str


@frozen
class PaymentDeclined:
    order_id: str
    reason: str


MESSAGES = [OrderPlaced, ProcessPayment, PaymentProcessed, PaymentDeclined]
