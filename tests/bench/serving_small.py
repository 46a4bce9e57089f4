"""A small model with 32 clients: images/s beside bare loops, and the CPU time of the server besides the model.

Beside it are the simplest gRPC server that makes batches, and as a lower bound one that echoes as many bytes. All take
turns, and figures are medians.
"""

import grpc
from loops import METHOD, Loop, bare_loop, client_loop
from models import SMALL, bare_call, latents, loaded, request_for, untrained
from results import Row, medians, publish
from servers import Server, echo, progan, simplest

from progan_service.serving.models.servable import Servable

ROUNDS = 9
SECONDS = 1.5
CLIENTS = 32


def main() -> None:
    with untrained(SMALL) as store, progan(store) as server, simplest(store) as simple:
        servable = loaded(store)
        with echo(reply_bytes(server, request_for(servable, 1))) as echoing:
            publish("serving-small", rows(*medians(loops(servable, server, simple, echoing) for _ in range(ROUNDS))))


def reply_bytes(server: Server, request: bytes) -> int:
    with grpc.insecure_channel(server.target) as channel:
        return len(channel.unary_unary(METHOD)(request))


def loops(servable: Servable, server: Server, simple: Server, echoing: Server) -> tuple[Loop, ...]:
    one, eight = request_for(servable, 1), request_for(servable, 8)
    return (
        bare_loop(bare_call(servable, 8), SECONDS),
        bare_loop(bare_call(servable, 16), SECONDS),
        client_loop(server, one, CLIENTS, SECONDS),
        client_loop(server, eight, CLIENTS, SECONDS),
        client_loop(simple, latents(servable, 1).tobytes(), CLIENTS, SECONDS),
        client_loop(echoing, one, CLIENTS, SECONDS),
    )


def rows(bare_8: Loop, bare_16: Loop, one: Loop, eight: Loop, simple: Loop, echoed: Loop) -> list[Row]:
    bare, model_s = bare_8.per_s * 8, bare_16.own_cpu_s / 16
    rest_s = one.server_cpu_s - model_s

    def rate(what: str, images_per_s: float) -> Row:
        return Row(what, images_per_s, "images/s", f"{images_per_s / bare:.2f} of the loop of 8")

    def cpu(what: str, seconds: float, note: str = "") -> Row:
        return Row(what, 1e6 * seconds, "microseconds of CPU per image", note)

    return [
        Row("bare loop, batch 8", bare, "images/s"),
        rate("bare loop, batch 16", bare_16.per_s * 16),
        rate(f"server, {CLIENTS} clients, calls of 1", one.per_s),
        rate(f"server, {CLIENTS} clients, calls of 8", eight.per_s * 8),
        rate("the simplest batcher, calls of 1", simple.per_s),
        cpu("server, calls of 1", one.server_cpu_s),
        cpu("the model's part of it", model_s, "bare loop, batch 16"),
        cpu("the rest of it", rest_s, f"{rest_s / echoed.server_cpu_s:.2f} times the echo"),
        cpu("the simplest batcher, calls of 1", simple.server_cpu_s),
        cpu("echo server, as many bytes", echoed.server_cpu_s),
        cpu("client, calls of 1", one.own_cpu_s),
        cpu("server, calls of 8", eight.server_cpu_s / 8),
        cpu("client, calls of 8", eight.own_cpu_s / 8),
    ]


if __name__ == "__main__":
    main()
