"""Milliseconds that the server adds to a single call of a small model. All take turns, and figures are medians.

A model that has just been idle runs slower, and in a server it is idle between two calls. So a bare call after a pause
of the same length is the fairer comparison.
"""

import statistics
from collections.abc import Callable

import grpc
from loops import METHOD, lone_call_s
from models import SMALL, bare_call, loaded, request_for, untrained
from results import Row, publish
from servers import echo, progan

ROUNDS = 9
PAUSE_S = 0.001


def main() -> None:
    with untrained(SMALL) as store, progan(store) as server, grpc.insecure_channel(server.target) as served:
        servable = loaded(store)
        request = request_for(servable, 1)
        ask = served.unary_unary(METHOD)
        with echo(len(ask(request))) as echoing, grpc.insecure_channel(echoing.target) as echoed:
            ask_echo = echoed.unary_unary(METHOD)
            measure(bare_call(servable, 1), lambda: ask(request), lambda: ask_echo(request))


def measure(bare: Callable[[], object], served: Callable[[], object], echoed: Callable[[], object]) -> None:
    rounds = [
        (lone_call_s(bare), lone_call_s(bare, PAUSE_S), lone_call_s(served), lone_call_s(echoed)) for _ in range(ROUNDS)
    ]
    bare_ms, paused_ms, served_ms, echo_ms = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
    publish(
        "lone-call-small",
        [
            Row("bare call", bare_ms, "ms"),
            Row("bare call after a pause", paused_ms, "ms", f"{1000 * PAUSE_S:g} ms before each call"),
            Row("call to the server", served_ms, "ms"),
            Row("added to a bare call", served_ms - bare_ms, "ms"),
            Row("added to a bare call after a pause", served_ms - paused_ms, "ms"),
            Row("call to an echo server, as many bytes", echo_ms, "ms"),
        ],
    )


if __name__ == "__main__":
    main()
