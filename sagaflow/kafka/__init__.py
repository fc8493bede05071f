"""Messages over Kafka."""

from sagaflow.kafka.bus import KafkaBus as KafkaBus

__all__ = ["KafkaBus"]
