"""A gRPC server under uvloop that answers every Generate with REPLY_BYTES zeros: `echo.py REPLY_BYTES`."""

import sys

import grpc
import uvloop

from progan_client.channel import SERVICE


async def main(reply_bytes: int) -> None:
    reply = bytes(reply_bytes)

    async def generate(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return reply

    server = grpc.aio.server()
    handlers = {"Generate": grpc.unary_unary_rpc_method_handler(generate)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening: gRPC 127.0.0.1:{port}, no HTTP", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
