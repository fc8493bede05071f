"""What helps to test sagas."""

from sagaflow.testing._clock import ManualClock as ManualClock

__all__ = ["ManualClock"]
