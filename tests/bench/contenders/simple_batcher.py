"""The simplest gRPC server that makes batches: `simple_batcher.py STORE`. Latents and images are plain bytes.

It has no protobuf, limits, metrics, log and deadlines, and one model: what a server costs that does nothing else.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bytes_server import serve
from models import loaded

from progan_service.serving.models.servable import Servable

MAX_BATCH_ROWS = 8


async def main(store: Path) -> None:
    servable, waiting = loaded(store), asyncio.Queue()

    async def generate(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        reply = asyncio.get_running_loop().create_future()
        waiting.put_nowait((np.frombuffer(request, np.float32)[np.newaxis], reply))
        return await reply

    await asyncio.gather(serve(generate), make_batches(servable, waiting))


async def make_batches(servable: Servable, waiting: asyncio.Queue) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as device:
        while True:
            batch = [await waiting.get()]
            while len(batch) < MAX_BATCH_ROWS and not waiting.empty():
                batch.append(waiting.get_nowait())
            rows = np.concatenate([latents for latents, _ in batch])
            images = await loop.run_in_executor(device, servable.generate, (rows,))
            for image, (_, reply) in zip(images, batch, strict=True):
                if not reply.done():
                    reply.set_result(image.tobytes())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
