"""The contract kit finds the mistakes that somebody may make who writes another transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from sagaflow import SystemClock
from sagaflow.bus.broker import BrokerBus
from sagaflow.mongo.drivers import driver_for
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.bus.mongo import wrong
from tests.databases import opened_database
from tests.reliability.proxy import Fault, Harm, Proxy

# The promise that tells of the mistake; others may, too.
FOUND: list[tuple[type[wrong.Mistaken], str]] = [
    (
        wrong.AcknowledgesBeforeTheHandler,
        "message_is_not_lost_with_the_process_that_handles_it",
    ),
    (wrong.LosesWhatIsToBeRetried, "message_on_which_a_handler_fails_is_delivered_again"),
    (wrong.DeliversWhatWasAccepted, "each_service_gets_a_message_once"),
    (wrong.ForgetsAttempts, "message_that_fails_for_too_long_is_a_dead_letter"),
    (wrong.WaitsInPlace, "message_that_fails_holds_up_its_saga_and_no_other"),
    (wrong.DropsDeadLetters, "dead_letter_can_be_dropped"),
    (wrong.DropsUnknownClasses, "message_of_an_unknown_class_is_a_dead_letter"),
    (wrong.RetriesWhatCannotBeRead, "message_that_cannot_be_read_is_a_dead_letter"),
    (wrong.ReordersASaga, "messages_of_a_saga_keep_their_order"),
    (wrong.ForgetsHeaders, "message_arrives_as_it_was"),
    (wrong.ForgetsTheTypesOfIds, "message_arrives_as_it_was"),
    (wrong.HangsOnPublish, "publishing_ends_though_the_broker_is_silent"),
    (wrong.TellsNobodyThatNoServiceIsThere, "command_that_no_service_takes_is_not_lost"),
    (wrong.SubscribesOnlyOnce, "handler_may_be_subscribed_later"),
    (wrong.BreaksOffHandlers, "bus_that_closes_lets_its_handlers_end"),
    (wrong.KeepsNoLimit, "sagas_are_handled_at_the_same_time_up_to_the_limit"),
    (wrong.CountsWaitingAsFailing, "message_that_waits_for_its_turn_holds_up_no_other"),
    (wrong.HandsOutOneAtATime, "message_that_waits_for_its_turn_holds_up_no_other"),
    (wrong.LosesWhatWaits, "message_that_waits_for_its_turn_is_given_back_at_the_end"),
]
ALL = sorted({promised for _, promised in FOUND})


class Kit(BusContract):
    """The kit on a bus with a transport that is made by calling a class."""

    def __init__(self, made_by: type[wrong.Mistaken], proxy: Proxy, uri: str) -> None:
        self.made_by, self.proxy = made_by, proxy
        # A right one has all the time that it needs; many a mistake shows by nothing happening.
        self.longest = 60.0 if made_by is wrong.Mistaken else 4.0
        self.uri = uri.replace(f":{urlsplit(uri).port}", f":{proxy.port}")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        name = f"test_{uuid4().hex}"
        async with opened_database("pymongo-async", self.uri, name) as database:

            def open_bus(service: str, **settings: Any) -> BrokerBus:
                transport = self.made_by(
                    driver=driver_for(database, abandons_writes=True),
                    service=service,
                    prefix="bus",
                    owner=uuid4().hex,
                    clock=SystemClock(),
                    lease=timedelta(seconds=10),
                    poll_interval=timedelta(milliseconds=20),
                    timeout=self.made_by.bound,
                )
                return BrokerBus(transport, service=service, **settings)

            yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        for command in ("find", "insert", "update"):
            self.proxy.plant(Fault(Harm.HOLD, command, times=1_000_000))
        try:
            yield
        finally:
            self.proxy.clear()


def is_broken(kit: Kit, promised: str) -> bool:
    """Tell whether the transport breaks a promise."""
    try:
        getattr(kit, f"test_{promised}")()
    except Exception:  # noqa: BLE001 - a test has failed, however it did
        return True
    return False


@pytest.mark.parametrize("promised", ALL)
def test_right_transport_keeps_the_promise(
    promised: str, bus_proxy: Proxy, mongodb_uri: str
) -> None:
    assert not is_broken(Kit(wrong.Mistaken, bus_proxy, mongodb_uri), promised)


@pytest.mark.parametrize(
    ("made_by", "promised"), FOUND, ids=[made_by.__name__ for made_by, _ in FOUND]
)
def test_mistake_is_found(
    made_by: type[wrong.Mistaken], promised: str, bus_proxy: Proxy, mongodb_uri: str
) -> None:
    assert is_broken(Kit(made_by, bus_proxy, mongodb_uri), promised)


class NeverSilent(Kit):
    """On a broker that cannot be made silent: then that promise is not tested."""

    def silence(self) -> None:  # type: ignore[override]
        return None


def test_broker_that_cannot_be_made_silent_is_tested_without(
    bus_proxy: Proxy, mongodb_uri: str
) -> None:
    promised = "publishing_ends_though_the_broker_is_silent"
    assert not is_broken(NeverSilent(wrong.Mistaken, bus_proxy, mongodb_uri), promised)


def test_every_mistake_is_looked_for() -> None:
    planted = {
        value
        for value in vars(wrong).values()
        if isinstance(value, type) and issubclass(value, wrong.Mistaken)
    }
    assert planted - {wrong.Mistaken} == {made_by for made_by, _ in FOUND}
