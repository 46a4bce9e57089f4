"""Tells a device that hangs from a process that stood still."""

import time
from collections.abc import Callable, Mapping

_LONGEST_STEP_S = 5  # devices are looked at every second; a longer time between two looks was a pause of the process


class HangWatch:
    """Finds models whose batch runs for longer than `hang_s`, by looking at them again and again.

    A process that was stopped (SIGSTOP, a suspended machine) did not look meanwhile, and its devices did not compute.
    So only the time between two looks counts, and a pause between them counts as a few seconds.
    """

    def __init__(self, hang_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang_s = hang_s
        self._clock = clock
        self._looked_at = clock()
        self._running_s: dict[str, float] = {}

    def look(self, busy_s: Mapping[str, float]) -> set[str]:
        """Return the names of the models that hang.

        busy_s   by model: how long its oldest batch has been running by the clock, in seconds; 0 when none runs
        """
        now = self._clock()
        step = min(now - self._looked_at, _LONGEST_STEP_S)
        self._looked_at = now
        self._running_s = {name: min(self._running_s.get(name, 0.0) + step, busy) for name, busy in busy_s.items()}
        return {name for name, running in self._running_s.items() if running > self._hang_s}
