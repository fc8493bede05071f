"""How messages travel: within one process, and between processes over a broker."""

from sagaflow._model.verdict import Accepted as Accepted
from sagaflow._model.verdict import RetryLater as RetryLater
from sagaflow._model.verdict import Undeliverable as Undeliverable
from sagaflow._model.verdict import Verdict as Verdict
from sagaflow.bus.broker import BrokerBus as BrokerBus
from sagaflow.bus.memory import MemoryBus as MemoryBus
from sagaflow.bus.rate import Rate as Rate
from sagaflow.bus.transport import DeadLetter as DeadLetter
from sagaflow.bus.transport import Delivery as Delivery
from sagaflow.bus.transport import Handle as Handle
from sagaflow.bus.transport import Outgoing as Outgoing
from sagaflow.bus.transport import Transport as Transport

__all__ = [
    "Accepted",
    "BrokerBus",
    "DeadLetter",
    "Delivery",
    "Handle",
    "MemoryBus",
    "Outgoing",
    "Rate",
    "RetryLater",
    "Transport",
    "Undeliverable",
    "Verdict",
]
