"""Refused calls in the log: the first of a kind in a second has its line, the others are counted on one line."""

import asyncio
from collections import Counter
from typing import NamedTuple

from progan_service.serving.watching.logs import requests_log

_TOGETHER_S = 1.0


class Kind(NamedTuple):
    """What refusals have in common."""

    method: str
    code: str
    reason: str


class Refusals:
    """The refusals of this second. Used in the event loop only."""

    def __init__(self) -> None:
        self._more: Counter[Kind] = Counter()  # than the first one; a kind with 0 has had its line

    def is_first(self, method: str, code: str, reason: str) -> bool:
        """Return whether a refused call is the first of its kind in a second. If it is not, it is counted."""
        kind = Kind(method, code, reason)
        if kind in self._more:
            self._more[kind] += 1
            return False
        if not self._more:
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._log)
        self._more[kind] = 0
        return True

    def _log(self) -> None:
        more, self._more = +self._more, Counter()
        if not more:
            return
        counts = ", ".join(f"{count} {kind.method} {kind.code} ({kind.reason})" for kind, count in more.most_common())
        refused = [{**kind._asdict(), "calls": count} for kind, count in more.most_common()]
        requests_log.info(
            "%d more calls refused in the last second: %s", more.total(), counts, extra={"fields": {"refused": refused}}
        )
