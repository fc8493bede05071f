"""Messages over Redis Streams."""

from sagaflow.redis.bus import RedisBus as RedisBus

__all__ = ["RedisBus"]
