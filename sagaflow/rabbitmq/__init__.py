"""Messages between processes over RabbitMQ."""

from sagaflow.rabbitmq.bus import RabbitBus as RabbitBus

__all__ = ["RabbitBus"]
