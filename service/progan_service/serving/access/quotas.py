"""The quota of each caller, kept by a token bucket.

A call for which there are not enough images is refused, and told when to come back. Streams wait in a queue. Calls and
streams have turns, so that neither take everything: a stream leaves what a refused call was promised, and then the next
call leaves what that stream waits for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from progan_service.serving.errors import QuotaExceeded, ServingError
from progan_service.serving.rights import Quota

_ROUNDING = 1e-6  # of an image
_GRACE_S = 0.25  # for who comes back a little late
_LOOK_S = 0.05  # a call that takes its images ends a promise, and so a wait, early
_MAX_START_S = 10.0  # that a stream waits for its first images


class Bucket:
    """Holds the images that a caller may still ask for. It begins full, and refills at a constant rate.

    Pure: `now` is in seconds of any clock, and never decreases from one call to the next. Waits are for at most as many
    images as the quota allows at once; more may be taken, and are missing later. Streams ask one at a time.
    """

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota = quota
        self._images = float(quota.images_at_once)
        self._at = now
        self._promised, self._until = 0, now  # to calls that were refused
        self._held = 0  # what a stream would have taken but for a promise
        self._owed = 0  # to the stream whose turn it is

    def wait_s(self, images: int, now: float) -> float:
        """Return the seconds until so many images are there, or have been there for others that took them."""
        self._refill(now)
        missing = images - self._images
        return missing / self.quota.images_per_s if missing > _ROUNDING else 0.0

    def call_wait_s(self, images: int, now: float) -> float:
        """Return the seconds until so many images are there for a call."""
        return self.wait_s(images + self._owed, now)

    def stream_wait_s(self, images: int, now: float) -> float:
        """Return the seconds after which a stream asks again, or 0 if so many images are there for it."""
        if self._owed or now >= self._until:
            return self.wait_s(images, now)
        self._held = images
        beside, left_s = images + self._promised, self._until - now
        return left_s if beside > self.quota.images_at_once else min(left_s, self.wait_s(beside, now))

    def promise_s(self, images: int, now: float) -> float:
        """Return the seconds after which a refused call finds so many images if it comes back."""
        wait_s = self.call_wait_s(images, now)
        self._promised = max(images, self._promised if now < self._until else 0)
        self._until = max(self._until, now + wait_s + _GRACE_S)
        return wait_s

    def take_for_call(self, images: int, now: float) -> None:
        """Take images that are there. The next turn is the stream's."""
        self._refill(now)
        self._images -= images
        self._until, self._owed, self._held = now, self._held, 0

    def take_for_stream(self, images: int, now: float) -> None:
        """Take images that are there."""
        self._refill(now)
        self._images -= images
        self.stream_left()

    def stream_left(self) -> None:
        """Note that no stream waits for its turn."""
        self._owed = self._held = 0

    def give_back(self, images: int) -> None:
        """Return images that were taken and not made."""
        self._images = min(self._images + images, self.quota.images_at_once)

    def change(self, quota: Quota, now: float) -> None:
        """Go on with another quota and the images that are there, but no more than it allows at once."""
        self._refill(now)
        self.quota = quota
        self._images = min(self._images, quota.images_at_once)

    def _refill(self, now: float) -> None:
        added = (now - self._at) * self.quota.images_per_s
        self._images, self._at = min(self._images + added, self.quota.images_at_once), now


class _Account:
    """The bucket of a caller, and the queue of its streams."""

    def __init__(self, caller: str, quota: Quota) -> None:
        self._caller = caller
        self._bucket = Bucket(quota, time.monotonic())
        self._queue = asyncio.Lock()
        self._queued = 0  # images
        self.give_back = self._bucket.give_back

    def take(self, images: int) -> None:
        """Take images for a call. Raise QuotaExceeded if they are not there."""
        now = time.monotonic()
        awaited = self._awaited(images)
        if self._bucket.call_wait_s(awaited, now):
            raise self._exceeded(self._bucket.promise_s(awaited, now))
        self._bucket.take_for_call(images, now)

    async def take_in_turn(self, images: int, *, first: bool) -> None:
        """Take images for a stream, after those that came before. Raise QuotaExceeded if its first ones take long."""
        wait_s = self._bucket.wait_s(self._queued + images, time.monotonic())
        if first and wait_s > _MAX_START_S:
            raise self._exceeded(wait_s)
        self._queued += images
        try:
            async with self._queue:
                await self._take_next(images)
        finally:
            self._queued -= images

    async def _take_next(self, images: int) -> None:
        try:
            while wait_s := self._bucket.stream_wait_s(self._awaited(images), time.monotonic()):
                await asyncio.sleep(min(wait_s, _LOOK_S))
        except asyncio.CancelledError:
            self._bucket.stream_left()
            raise
        self._bucket.take_for_stream(images, time.monotonic())

    def change(self, quota: Quota) -> None:
        self._bucket.change(quota, time.monotonic())

    def _awaited(self, images: int) -> int:
        """Return how many images must be there: a job from before a change may take more at once than the quota."""
        return min(images, self._bucket.quota.images_at_once)

    def _exceeded(self, retry_after_s: float) -> QuotaExceeded:
        quota = self._bucket.quota
        return QuotaExceeded(self._caller, quota.images_per_s, quota.images_at_once, retry_after_s)


class Quotas:
    """The quotas of all callers, by name: the tokens of a name share one. Used in the event loop only.

    A caller keeps its account for good: streams that have begun go on when their caller is removed.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Account | None] = {}  # None: no quota

    @asynccontextmanager
    async def taken(self, caller: str, quota: Quota | None, images: int) -> AsyncIterator[None]:
        """Take images for the block, which makes them, or raise QuotaExceeded.

        They are given back if the block refuses them with a ServingError.
        """
        account = self._account(caller, quota)
        if account:
            account.take(images)
        with _given_back(account, images):
            yield

    @asynccontextmanager
    async def taken_in_turn(self, caller: str, quota: Quota | None, images: int, *, first: bool) -> AsyncIterator[None]:
        """Take images of a stream for the block, once they are there. Raise QuotaExceeded if the first take long."""
        account = self._account(caller, quota)
        if account:
            await account.take_in_turn(images, first=first)
        with _given_back(account, images):
            yield

    def follow(self, quotas: Mapping[str, Quota | None]) -> None:
        """Set the quotas of callers. Those that had one before go on with the images that are left of it."""
        for caller, quota in quotas.items():
            account = self._accounts.get(caller)
            if account and quota:
                account.change(quota)
            else:
                self._accounts[caller] = _Account(caller, quota) if quota else None

    def _account(self, caller: str, quota: Quota | None) -> _Account | None:
        """Return the account of a caller. The quota of a job, which may be an old one, counts for a new caller only."""
        if caller not in self._accounts:
            self._accounts[caller] = _Account(caller, quota) if quota else None
        return self._accounts[caller]


@contextmanager
def _given_back(account: _Account | None, images: int) -> Iterator[None]:
    """Give images back if the block refuses them."""
    try:
        yield
    except ServingError:
        if account:
            account.give_back(images)
        raise
