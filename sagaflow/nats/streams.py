"""The streams of a bus, with settings of our own rather than the server's. Runs on asyncio."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from datetime import timedelta
from typing import Final

from attrs import frozen
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from sagaflow._model.errors import BusError
from sagaflow.nats.link import Link
from sagaflow.nats.names import Names

_NAME_IN_USE: Final = 10058


@frozen(kw_only=True)
class StreamSettings:
    """What a stream is to be like.

    :ivar replicas: on how many servers of a cluster each message is stored.
    :ivar max_age: how old a message may become; None for any age.
    :ivar duplicate_window: how long a stream recognises the id of a message that it has stored.
    """

    replicas: int
    max_age: timedelta | None
    duplicate_window: timedelta


async def make_streams(link: Link, names: Names, settings: StreamSettings) -> None:
    """Make the streams of a service that are not there, and bring its inbox up to its settings.

    :raises BusError: if the server cannot be reached, refuses, or has another stream of that name.
    """
    window = settings.duplicate_window.total_seconds()
    registry = StreamConfig(
        name=names.registry,
        subjects=[names.registry_subjects],
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        num_replicas=settings.replicas,
    )
    dead = StreamConfig(
        name=names.dead,
        subjects=[names.dead_subjects],
        retention=RetentionPolicy.LIMITS,
        max_msgs_per_subject=1,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,  # with NEW, a letter that is stored again would be refused
        num_replicas=settings.replicas,
        duplicate_window=window,
    )
    inbox = StreamConfig(
        name=names.inbox,
        subjects=[names.inbox_subjects],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,  # a full stream refuses new messages: it forgets no old ones
        num_replicas=settings.replicas,
        max_age=None if settings.max_age is None else settings.max_age.total_seconds(),
        duplicate_window=window,
    )
    async with link.bounded(f"make the streams of {names.service}") as context:
        for config in (registry, dead, inbox):
            await _make(context, config, updates=config is inbox)


async def _make(context: JetStreamContext, wanted: StreamConfig, *, updates: bool) -> None:
    assert wanted.name is not None  # noqa: S101 - it was just given
    try:
        found = (await context.stream_info(wanted.name)).config
    except NotFoundError:
        try:
            await context.add_stream(wanted)
        except APIError as exc:
            if exc.err_code != _NAME_IN_USE:
                raise
        else:
            return
        found = (await context.stream_info(wanted.name)).config
    if found.subjects != wanted.subjects or (
        wanted.retention is not None and found.retention != wanted.retention
    ):
        raise BusError(
            f"the stream {wanted.name} is not one of this bus: choose another prefix=, or remove it"
        )
    same = (
        found.num_replicas == (wanted.num_replicas or 1)
        and (found.max_age or 0) == (wanted.max_age or 0)
        and found.duplicate_window == wanted.duplicate_window
    )
    if updates and not same:
        await context.update_stream(
            found.evolve(
                num_replicas=wanted.num_replicas,
                max_age=wanted.max_age or 0,
                duplicate_window=wanted.duplicate_window,
            )
        )
