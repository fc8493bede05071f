"""What helps to test sagas."""

from sagaflow.testing._clock import ManualClock as ManualClock
from sagaflow.testing._contract import RepositoryContract as RepositoryContract
from sagaflow.testing._expected import containing as containing
from sagaflow.testing._expected import in_any_order as in_any_order
from sagaflow.testing._participants import Participant as Participant
from sagaflow.testing._saga_test import AsyncSagaTest as AsyncSagaTest
from sagaflow.testing._saga_test import SagaTest as SagaTest

__all__ = [
    "AsyncSagaTest",
    "ManualClock",
    "Participant",
    "RepositoryContract",
    "SagaTest",
    "containing",
    "in_any_order",
]
