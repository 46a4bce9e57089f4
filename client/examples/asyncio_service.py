"""Serve avatars over TCP: a connection sends a name and receives a PNG file. All connections share one client.

    python asyncio_service.py [PORT]
    echo alice | nc localhost 8600 > alice.png

The same name always receives the same image. Each connection is a task of its own, so calls run in parallel and the
service puts their images into shared batches.
"""

import asyncio
import hashlib
import os
import sys
from functools import partial

from progan_client import AsyncClient, ProganError


async def answer(client: AsyncClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).strip()
    seed = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
    try:
        images = await client.generate(seed=seed, encoding="png")
        writer.write(images.files[0])
    except ProganError as error:
        print(f"{name!r}: {error}", file=sys.stderr)
    writer.close()
    await writer.wait_closed()


async def main(port: int) -> None:
    async with AsyncClient(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
        server = await asyncio.start_server(partial(answer, client), "127.0.0.1", port)
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        async with server:
            await server.serve_forever()


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8600))
