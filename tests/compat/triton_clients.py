"""Asks a server for the same images by Triton's and KServe's clients, and says as JSON what came. Needs .venv-compat.

python open_inference_clients.py GRPC_ADDRESS HTTP_ADDRESS MODEL LATENTS.npy [TOKEN]
"""

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from asked import SEEDS, digest, kind
from numpy.typing import NDArray


def main(grpc_target: str, http_target: str, model: str, latents_file: str, token: str = "") -> None:
    latents = np.load(latents_file)
    headers = {"authorization": f"Bearer {token}"} if token else None
    seen = {
        "tritonclient.grpc": with_triton(triton_grpc, grpc_target, model, latents, headers),
        "tritonclient.http": with_triton(triton_http, http_target, model, latents, headers),
    }
    if not headers:  # with newer releases of grpc, these two fail in this client with any headers
        seen["tritonclient.grpc stream"] = by_triton_stream(grpc_target, model)
        seen["tritonclient.grpc.aio"] = asyncio.run(with_triton_aio(grpc_target, model, latents))
    print(json.dumps(seen))


def with_triton(
    library: Any, target: str, model: str, latents: NDArray[Any], headers: dict[str, str] | None
) -> dict[str, Any]:
    client = library.InferenceServerClient(target)
    output = [library.InferRequestedOutput("images")]

    def images(name: str, rows: NDArray[Any]) -> str:
        put = library.InferInput(name, list(rows.shape), kind(rows))
        put.set_data_from_numpy(rows)
        return digest(client.infer(model, [put], outputs=output, headers=headers).as_numpy("images"))

    metadata = client.get_model_metadata(model, headers=headers)
    name = metadata["name"] if isinstance(metadata, dict) else metadata.name
    return {
        "health": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model, headers=headers)],
        "stranger": client.is_model_ready("stranger", headers=headers),
        "name": name,
        "latents": images("latents", latents),
        "seeds": images("seeds", SEEDS),
    }


async def with_triton_aio(target: str, model: str, latents: NDArray[Any]) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(target) as client:

        async def images(name: str, rows: NDArray[Any]) -> str:
            put = triton_aio.InferInput(name, list(rows.shape), kind(rows))
            put.set_data_from_numpy(rows)
            return digest((await client.infer(model, [put])).as_numpy("images"))

        return {"latents": await images("latents", latents), "seeds": await images("seeds", SEEDS)}


def by_triton_stream(target: str, model: str) -> dict[str, Any]:
    """Three good requests and a bad one: the stream survives."""
    client, answers = triton_grpc.InferenceServerClient(target), queue.Queue[Any]()
    client.start_stream(lambda result, error: answers.put((result, error)))
    put = triton_grpc.InferInput("seeds", [2], "UINT64")
    put.set_data_from_numpy(SEEDS)
    for asked in (model, model, "stranger", model):
        client.async_stream_infer(asked, [put])
    got = [answers.get(timeout=60) for _ in range(4)]
    client.stop_stream()
    good = [digest(result.as_numpy("images")) for result, error in got if error is None]
    return {"seeds": good[0], "all": [each == good[0] for each in good], "errors": sum(e is not None for _, e in got)}


main(*sys.argv[1:])
