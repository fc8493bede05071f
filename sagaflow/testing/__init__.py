"""Tools for testing sagas, and repositories that you write yourself."""

from sagaflow._model.public import public_in as _public_in
from sagaflow.testing._bus_contract import BusContract as BusContract
from sagaflow.testing._clock import ManualClock as ManualClock
from sagaflow.testing._contract import RepositoryContract as RepositoryContract
from sagaflow.testing._expected import containing as containing
from sagaflow.testing._expected import in_any_order as in_any_order
from sagaflow.testing._exploring.explore import explore as explore
from sagaflow.testing._exploring.explore import replay as replay
from sagaflow.testing._exploring.findings import Exploration as Exploration
from sagaflow.testing._exploring.findings import Finding as Finding
from sagaflow.testing._exploring.findings import FindingKind as FindingKind
from sagaflow.testing._exploring.machine import saga_state_machine as saga_state_machine
from sagaflow.testing._exploring.steps import Advance as Advance
from sagaflow.testing._exploring.steps import Deliver as Deliver
from sagaflow.testing._exploring.steps import Retry as Retry
from sagaflow.testing._participants import Participant as Participant
from sagaflow.testing._saga_test import AsyncSagaTest as AsyncSagaTest
from sagaflow.testing._saga_test import SagaTest as SagaTest

__all__ = [
    "Advance",
    "AsyncSagaTest",
    "BusContract",
    "Deliver",
    "Exploration",
    "Finding",
    "FindingKind",
    "ManualClock",
    "Participant",
    "RepositoryContract",
    "Retry",
    "SagaTest",
    "containing",
    "explore",
    "in_any_order",
    "replay",
    "saga_state_machine",
]

_public_in(__name__, containing, explore, in_any_order, replay, saga_state_machine)
