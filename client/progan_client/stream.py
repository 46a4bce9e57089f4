"""Keep a stream going when its server drains or dies, or the connection breaks. No network and no clock here."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from progan_client.errors import ClientClosedError, DeadlineExceededError, ProganError, ReplyError, ServiceError
from progan_protos.v1 import image_generator_pb2 as pb

MAX_FAILURES = 10  # in a row, without an image between them: half a minute
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.25, 10.0

# What gRPC reports of a connection that broke. The last three come from proxies that lost their server.
_BROKEN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)

# What the service says of a stream that it gives up: it drains, or the reader paused for too long.
_GIVEN_UP = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

_log = logging.getLogger("progan_client")


class Stream:
    """One stream of `count` images: its request, and what has arrived.

    An index of a request means the same image on every server that has the same version of the model. So a stream that
    broke goes on after the last image that arrived, at any server. It asks for the version that made the images so far,
    although a newer one may serve by now. If the next server has other files under this version, or refuses, or if none
    answers, the stream ends with the error that broke it.

    `request`  for the next call.
    """

    def __init__(self, request: pb.StreamGenerateRequest | pb.InterpolateRequest, count: int) -> None:
        self.request = request
        self._count = count
        self._arrived = 0
        self._model: pb.ServedModel | None = None
        self._broken_by: ServiceError | None = None  # None: images have arrived since
        self._failures = 0

    @property
    def is_complete(self) -> bool:
        """Whether all images have arrived. A connection may break between the last one and the status of the call."""
        return self._arrived >= self._count

    def arrived(self, reply: pb.StreamGenerateResponse | pb.InterpolateResponse) -> None:
        """Record a reply. Raise ReplyError if it does not continue the stream."""
        self._check_continues(reply)
        if self._broken_by:
            _log.info("the stream went on after %d of %d images: %s", self._arrived, self._count, self._broken_by)
        self._model = reply.model
        self._arrived += reply.images.count
        self._broken_by, self._failures = None, 0

    def ended(self) -> None:
        """Record that the service ended the stream as a success. Raise ReplyError if images are missing."""
        if not self.is_complete:
            raise ReplyError(f"the service ended the stream after {self._arrived} of {self._count} images")

    def pause_s(self, error: ProganError, remaining_s: float) -> float:
        """Return how many seconds to wait before the rest is requested. Raise the error that ends the stream."""
        if self.is_complete and not isinstance(error, ReplyError):
            return 0.0
        self._failures += 1
        pause_s = _pause_s(error, self._failures)
        is_over = not self._arrived or self._failures == MAX_FAILURES or pause_s >= remaining_s
        if is_over or not isinstance(error, ServiceError) or not _may_go_on(error):
            raise self._ending(error)
        self._broken_by = self._broken_by or error
        self._request_the_rest()
        return pause_s

    def _check_continues(self, reply: pb.StreamGenerateResponse | pb.InterpolateResponse) -> None:
        if reply.first_index != self._arrived:
            raise ReplyError(f"the service sent image {reply.first_index} of the stream instead of {self._arrived}")
        if not 1 <= reply.images.count <= self._count - self._arrived:
            sent = f"{reply.images.count} images after {self._arrived} of {self._count}"
            raise ReplyError(f"the service sent a message of {sent}")
        if self._model not in (None, reply.model):
            raise ReplyError(f"the next server has other files of {reply.model.name} version {reply.model.version}")

    def _request_the_rest(self) -> None:
        assert self._model
        self.request.first_index = self._arrived
        self.request.model.CopyFrom(pb.ModelSelector(name=self._model.name, version=self._model.version))

    def _ending(self, error: ProganError) -> ProganError:
        """Return the error that broke the stream, with the one that kept it from going on as a note."""
        if self._broken_by is None or isinstance(error, (ClientClosedError, DeadlineExceededError)):
            return error
        self._broken_by.add_note(f"The stream could not go on: {error}")
        return self._broken_by


@contextmanager
def cancelled_at_the_end(call: Any) -> Iterator[None]:
    """Cancel a call at the end of the block, also when the reader closes or drops its iterator."""
    try:
        yield
    finally:
        call.cancel()


def _may_go_on(error: ServiceError) -> bool:
    """Return whether another call may succeed. Errors of the service have a reason, those of gRPC have none."""
    if error.reason:
        return error.code in _GIVEN_UP or error.retry_after_s is not None
    return error.code in _BROKEN


def _pause_s(error: ProganError, failures: int) -> float:
    """Return twice the pause with each failure, at random, so that clients of one lost server come apart.

    A service that says when to come back is asked no earlier.
    """
    pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
    asked_s = error.retry_after_s if isinstance(error, ServiceError) else None
    return max(float(pause_s), asked_s or 0.0)
