"""Asks a server for the same images by Triton's clients, and says as JSON what came. Needs .venv-compat.

python triton_clients.py GRPC_ADDRESS HTTP_ADDRESS MODEL LATENTS.npy [TOKEN]
"""

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from asked import SEEDS, digest, kind
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException


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

    def images(name: str, rows: NDArray[Any], datatype: str = "", **how: Any) -> str:
        put = library.InferInput(name, list(rows.shape), datatype or kind(rows))
        put.set_data_from_numpy(rows)
        return digest(client.infer(model, [put], outputs=output, headers=own(headers), **how).as_numpy("images"))

    count = {"seed": str(SEEDS[1]), "count": 2}
    seen = {
        "health": [
            *(client.is_server_live(), client.is_server_ready()),
            *(client.is_model_ready(model, version, headers=own(headers)) for version in ("", "1")),
        ],
        "stranger": client.is_model_ready("stranger", headers=own(headers)),
        "metadata": as_dict(client.get_model_metadata, model, headers=own(headers)),
        "config": as_dict(client.get_model_config, model, headers=own(headers)),
        "index": as_dict(client.get_model_repository_index, headers=own(headers)),
        "statistics": as_dict(client.get_inference_statistics, model, headers=own(headers)),
        "latents": images("latents", latents),
        "seeds": images("seeds", SEEDS),
        "FP16": images("latents", latents.astype(np.float16), "FP16"),
        "BF16": images("latents", latents.astype(ml_dtypes.bfloat16), "BF16"),
        "parameter": digest(client.infer(model, [], parameters=count, headers=own(headers)).as_numpy("images")),
        "id": client.infer(
            model, [], parameters=count, request_id="844424930132059", headers=own(headers)
        ).get_response(),
        "refusals": {
            "metadata": refusal(lambda: client.get_model_metadata("stranger", headers=own(headers))),
            "infer": refusal(lambda: images("latents", latents[:, :5])),
            "unload": refusal(lambda: client.unload_model(model, headers=own(headers))),
            "memory": refusal(lambda: client.register_system_shared_memory("mine", "/mine", 4, headers=own(headers))),
            "log": refusal(lambda: client.update_log_settings({"log_info": False}, headers=own(headers))),
        },
    }
    client.load_model(model, headers=own(headers))
    seen["id"] = seen["id"]["id"] if isinstance(seen["id"], dict) else seen["id"].id
    if library is triton_grpc:
        seen["compressed"] = [images("seeds", SEEDS, compression_algorithm=how) for how in ("gzip", "deflate")]
    else:
        seen["compressed"] = [images("seeds", SEEDS, request_compression_algorithm=how) for how in ("gzip", "deflate")]
        seen["ways"] = [
            by_http(client, model, latents, *ways, own(headers)) for ways in product((True, False), repeat=2)
        ]
    return seen


def as_dict(ask: Any, *names: str, **how: Any) -> Any:
    """What a client is told, as JSON, by both of its clients."""
    answer = ask(*names, **how)
    return answer if isinstance(answer, dict | list) else ask(*names, **how, as_json=True)


def by_http(
    client: Any, model: str, latents: NDArray[Any], put: bool, get: bool, headers: dict[str, str] | None
) -> str:
    """Latents are put, and images got, as binary data or as JSON."""
    tensor = triton_http.InferInput("latents", list(latents.shape), "FP32")
    tensor.set_data_from_numpy(latents, binary_data=put)
    output = [triton_http.InferRequestedOutput("images", binary_data=get)]
    return digest(client.infer(model, [tensor], outputs=output, headers=own(headers)).as_numpy("images"))


def own(headers: dict[str, str] | None) -> dict[str, str] | None:
    """A copy: the client over HTTP leaves the length of a request in the headers that it was given."""
    return dict(headers) if headers else None


def refusal(call: Any) -> str:
    """The text that a client shows of an error."""
    try:
        call()
    except InferenceServerException as error:
        return str(error.message())
    return ""


async def with_triton_aio(target: str, model: str, latents: NDArray[Any]) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(target) as client:

        async def images(name: str, rows: NDArray[Any]) -> str:
            return digest((await client.infer(model, [tensor(name, rows)])).as_numpy("images"))

        def tensor(name: str, rows: NDArray[Any]) -> Any:
            put = triton_aio.InferInput(name, list(rows.shape), kind(rows))
            put.set_data_from_numpy(rows)
            return put

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for asked in (model, model, "stranger", model):
                yield {"model_name": asked, "inputs": [tensor("seeds", SEEDS)]}

        got = [answer async for answer in client.stream_infer(requests())]
        health = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(model)]
        return {
            "health": health,
            "stranger": await client.is_model_ready("stranger"),
            "config": await client.get_model_config(model, as_json=True),
            "metadata": await client.get_model_metadata(model, as_json=True),
            "latents": await images("latents", latents),
            "seeds": await images("seeds", SEEDS),
            "stream": [digest(result.as_numpy("images")) for result, error in got if error is None],
            "errors": sum(error is not None for _, error in got),
        }


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
