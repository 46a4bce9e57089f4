"""The batches in flight on one device: begun and not ended. Pure: no clock, no thread.

Batches overlap where a device copies one in or out while it computes another. Then a batch takes longer from its
beginning to its end than it keeps the device busy, so there are two times of a batch:

- Its share: from the end of the batch before it, or from its own beginning if that was later, to its end. Shares add up
  to the time in which the device was busy. So they tell how much the device can do.
- Its time alone: from the beginning to the end of a batch that no other overlapped. No batch ends sooner after it has
  begun. So it tells when the first batch of an idle device ends.

With one batch in flight, the two are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

Seconds = Callable[[int], float]  # how long a batch takes, by its padded size


@dataclass(eq=False)
class Flight:
    """A batch that has begun: its padded size, when that was, and whether no other has overlapped it so far."""

    size: int
    since: float
    alone: bool = True


@dataclass(eq=False)
class Flights:
    """The batches in flight on one device, in the order in which they began, and when the last one ended."""

    batches: list[Flight] = field(default_factory=list)
    ended: float = float("-inf")

    def __len__(self) -> int:
        return len(self.batches)

    def begin(self, size: int, now: float) -> Flight:
        """Add a batch that begins now."""
        self.batches.append(Flight(size, now))
        if len(self.batches) > 1:
            for batch in self.batches:
                batch.alone = False
        return self.batches[-1]

    def end(self, batch: Flight, now: float) -> float:
        """Remove a batch that ends now. Return its share in seconds."""
        self.batches.remove(batch)
        share_s = now - max(batch.since, self.ended)
        self.ended = now
        return share_s

    def free_at(self, now: float, share_s: Seconds, alone_s: Seconds) -> float:
        """Estimate when the device has finished all that is in flight; `now` if nothing is."""
        end = self.ended
        for batch in self.batches:
            end = max(max(end, batch.since) + share_s(batch.size), batch.since + alone_s(batch.size))
            end = now + abs(end - now)  # a batch that is late may be as late again
        return max(end, now)
