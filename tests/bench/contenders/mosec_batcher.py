"""Batches by mosec: `mosec_batcher.py --port PORT`. The store is in STORE; latents and images are bodies as bytes."""

import os
import sys
from pathlib import Path

import numpy as np
from mosec import Server, Worker

sys.path.insert(0, str(Path(__file__).parent.parent))

MAX_BATCH_ROWS = 8


class Generate(Worker):
    def __init__(self) -> None:
        from models import loaded  # not in the process of the server, which starts this one

        self.servable = loaded(Path(os.environ["STORE"]))

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.float32)

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.servable.generate((np.stack(data),)))

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Generate, max_batch_size=MAX_BATCH_ROWS, max_wait_time=1)  # milliseconds, its shortest
    server.run()
