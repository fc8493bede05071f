"""How messages travel."""

from sagaflow.bus.memory import MemoryBus as MemoryBus

__all__ = ["MemoryBus"]
