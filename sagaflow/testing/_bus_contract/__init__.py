"""The suite that every bus over a broker has to pass."""

from __future__ import annotations

from sagaflow.testing._bus_contract.answering import AnswerTests
from sagaflow.testing._bus_contract.closing import ClosingTests
from sagaflow.testing._bus_contract.delivering import DeliveryTests
from sagaflow.testing._bus_contract.failing import FailureTests
from sagaflow.testing._bus_contract.limiting import LimitTests
from sagaflow.testing._bus_contract.ordering import OrderTests


class BusContract(DeliveryTests, OrderTests, FailureTests, AnswerTests, ClosingTests, LimitTests):
    """The suite that the built-in buses pass, for authors of adapters to other brokers.

    Subclass it in a test module and say how buses are opened; pytest, or any runner that calls
    methods named ``test_...``, does the rest. It needs neither fixtures nor plugins::

        class TestPigeonBus(BusContract):
            @asynccontextmanager
            async def open(self):
                loft = Loft()
                yield lambda service, **settings: PigeonBus(loft, service=service, **settings)

    Each test opens a broker of its own, which nobody else uses; ``runtime = "trio"`` runs the tests
    on trio.
    """
