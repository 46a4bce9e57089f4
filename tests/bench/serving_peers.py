"""This server beside others: the same small model on the same cores, calls for one image, batches of up to eight.

The others do nothing but make batches. mosec and LitServe speak HTTP, and have environments of their own, which `make
bench` makes; what cannot be had or does not start is left out by name. Triton is not here: the package of it on PyPI
brings a Python backend that does not start with a Python of another patch release. All take turns; figures are medians.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from loops import METHOD, Callers, answers, bare_loop, lone_call_s, over_grpc, over_http
from models import SMALL, bare_call, latents, loaded, request_for, untrained
from results import Row, medians, publish
from servers import peer, progan, simplest

from progan_service.serving.models.servable import Servable

ROUNDS = 7
SECONDS = 1.5
CLIENTS = 32
BATCH = 8

Asks = Callable[[int], Callers]  # so many callers


class Bare(NamedTuple):
    """The model without a server: seconds for one image, images/s in batches."""

    lone_s: float
    per_s: float


class Served(NamedTuple):
    """A server: images/s of all clients, their slowest calls, and a call of a client that is alone, in seconds."""

    per_s: float
    p99_s: float
    lone_s: float


def main() -> None:
    with untrained(SMALL) as store, ExitStack() as servers:
        servable = loaded(store)
        asks = dict(started(store, servable, servers))
        bare, *served = medians(turn(servable, list(asks.values())) for _ in range(ROUNDS))
        publish("serving-peers", list(rows(bare, dict(zip(asks, served, strict=True)))))


def turn(servable: Servable, asks: list[Asks]) -> Iterator[Bare | Served]:
    yield Bare(lone_call_s(bare_call(servable, 1)), BATCH * bare_loop(bare_call(servable, BATCH), SECONDS).per_s)
    for ask in asks:
        many, alone = answers(ask(CLIENTS), SECONDS), answers(ask(1), SECONDS / 3)
        yield Served(many.per_s, many.p99_s, alone.median_s)


def rows(bare: Bare, served: dict[str, Served]) -> Iterator[Row]:
    yield Row(f"bare loop, batch {BATCH}", bare.per_s, "images/s")
    for name, of in served.items():
        yield Row(name, of.per_s, "images/s", f"{of.per_s / bare.per_s:.2f} of the loop, {CLIENTS} clients")
    for name, of in served.items():
        yield Row(f"{name}, 99 of 100 calls within", 1000 * of.p99_s, "ms")
    yield Row("bare call", 1000 * bare.lone_s, "ms")
    for name, of in served.items():
        yield Row(f"{name}, a lone call", 1000 * of.lone_s, "ms", f"{1000 * (of.lone_s - bare.lone_s):+.2f} ms")


def started(store: Path, servable: Servable, servers: ExitStack) -> Iterator[tuple[str, Asks]]:
    """Start all servers that can be had, until `servers` is left."""
    row = latents(servable, 1).tobytes()
    ours, simple = servers.enter_context(progan(store)), servers.enter_context(simplest(store))
    yield "this server", partial(over_grpc, ours.target, METHOD, request_for(servable, 1))
    yield "the simplest gRPC batcher", partial(over_grpc, simple.target, METHOD, row)
    as_json = json.dumps({"latents": base64.b64encode(row).decode()}).encode()
    for name, options, request in (
        ("mosec", ("--address", "127.0.0.1", "--port", "PORT"), http_request("/inference", row)),
        ("litserve", ("PORT",), http_request("/predict", as_json, "application/json")),
    ):
        try:
            target = servers.enter_context(peer(name, store, *options))
        except (OSError, RuntimeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            yield name, partial(over_http, target, request)


def http_request(path: str, body: bytes, kind: str = "application/octet-stream") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    main()
