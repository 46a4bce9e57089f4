"""Batches by LitServe: `litserve_batcher.py PORT`. The store is in STORE; latents are base64 in JSON, images bytes."""

import base64
import os
import sys
from pathlib import Path

import litserve
import numpy as np
from fastapi import Response

sys.path.insert(0, str(Path(__file__).parent.parent))

MAX_BATCH_ROWS = 8


class Generate(litserve.LitAPI):
    def setup(self, device: str) -> None:
        from models import loaded

        self.servable = loaded(Path(os.environ["STORE"]))

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["latents"]), np.float32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.servable.generate((x,))

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(output.tobytes())


if __name__ == "__main__":
    api = Generate(max_batch_size=MAX_BATCH_ROWS, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
