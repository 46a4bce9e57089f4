"""Which paths lead to which answers."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from progan_service.serving.http.exchange import Exchange

Answer = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """Requests with one method whose whole path fits a pattern. GET answers HEAD, too.

    path     of the encoded path; its groups become `Exchange.words`
    answer   sends the answer, errors included
    """

    method: str
    path: re.Pattern[str]
    answer: Answer


@dataclass(frozen=True)
class Found:
    answer: Answer
    words: Mapping[str, str | None]


def find(routes: Sequence[Route], method: str, path: str) -> Found | list[str]:
    """Return the answer of the first route that fits, or the methods that this path has; none if it leads nowhere."""
    fitting = [(route, words) for route in routes if (words := route.path.fullmatch(path))]
    for route, words in fitting:
        if route.method == ("GET" if method == "HEAD" else method):
            return Found(route.answer, words.groupdict())
    return sorted({route.method for route, _ in fitting})
