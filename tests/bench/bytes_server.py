"""A gRPC server whose messages are plain bytes."""

from collections.abc import Awaitable, Callable

import grpc

from progan_client.channel import SERVICE


async def serve(generate: Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]) -> None:
    """Answer each Generate until the process ends. The first line printed names the port, as that of `progan serve`."""
    server = grpc.aio.server()
    handlers = {"Generate": grpc.unary_unary_rpc_method_handler(generate)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening: gRPC 127.0.0.1:{port}, no HTTP", flush=True)
    await server.wait_for_termination()
