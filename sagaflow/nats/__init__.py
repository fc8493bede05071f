"""A bus over NATS JetStream. It needs the extra ``nats``."""

from sagaflow.nats.bus import NatsBus as NatsBus

__all__ = ["NatsBus"]
