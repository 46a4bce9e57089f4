"""A gRPC server under uvloop that answers every Generate with REPLY_BYTES zeros: `echo.py REPLY_BYTES`."""

import sys

import grpc
import uvloop
from bytes_server import serve


async def main(reply_bytes: int) -> None:
    reply = bytes(reply_bytes)

    async def generate(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return reply

    await serve(generate)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
