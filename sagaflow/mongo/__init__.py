"""Sagas in MongoDB."""

from sagaflow.mongo.bus import MongoBus as MongoBus
from sagaflow.mongo.embedded import EmbeddedServer as EmbeddedServer
from sagaflow.mongo.repository import MongoRepository as MongoRepository

__all__ = ["EmbeddedServer", "MongoBus", "MongoRepository"]
