"""The bundled model: images/s of the server beside a bare loop over the same SavedModel, and the time of a single call.

Server and client share this machine's cores; the two take turns, and figures are medians.
"""

import statistics

import grpc
from loops import METHOD, bare_loop, client_loop, lone_call_s
from models import bare_call, loaded, request_for
from results import Row, medians, publish
from servers import Server, progan

from progan_service.serving.config import BatchingConfig
from progan_service.serving.models.servable import Servable
from progan_service.store.bundled import BUNDLED_STORE

ROUNDS = 9
SECONDS = 2.0
CLIENTS = 32
IMAGES = (1, 8)  # of a call
BATCH = BatchingConfig().max_batch_size


def main() -> None:
    servable = loaded(BUNDLED_STORE)
    with progan() as server:
        rows = [*throughput(servable, server), *lone_call(servable, server)]
    publish("serving-bundled", rows)


def throughput(servable: Servable, server: Server) -> list[Row]:
    call, requests = bare_call(servable, BATCH), [request_for(servable, images) for images in IMAGES]
    bare, *served = medians(
        (bare_loop(call, SECONDS), *(client_loop(server, request, CLIENTS, SECONDS) for request in requests))
        for _ in range(ROUNDS)
    )
    rows = [Row(f"bare loop, batch {BATCH}", bare.per_s * BATCH, "images/s")]
    for images, loop in zip(IMAGES, served, strict=True):
        rate = loop.per_s * images
        share = f"{rate / (bare.per_s * BATCH):.2f} of the bare loop"
        rows.append(Row(f"server, {CLIENTS} clients, calls of {images}", rate, "images/s", share))
    return rows


def lone_call(servable: Servable, server: Server) -> list[Row]:
    call, request = bare_call(servable, 1), request_for(servable, 1)
    with grpc.insecure_channel(server.target) as channel:
        ask = channel.unary_unary(METHOD)
        rounds = [(lone_call_s(call), lone_call_s(lambda: ask(request))) for _ in range(ROUNDS)]
    bare_s, served_s = map(statistics.median, zip(*rounds, strict=True))
    added = f"{(served_s - bare_s) * 1000:.2f} ms more"
    return [Row("bare call", bare_s * 1000, "ms"), Row("single call to the server", served_s * 1000, "ms", added)]


if __name__ == "__main__":
    main()
