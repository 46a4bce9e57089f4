"""Asks a server for images by KServe's clients, and says as JSON what came. Runs in an environment of its own.

Triton's clients need another process: their messages have the same names.

    python kserve_clients.py GRPC_ADDRESS HTTP_ADDRESS MODEL LATENTS.npy [TOKEN]
"""

import asyncio
import json
import sys
from typing import Any

import kserve
import numpy as np
from asked import SEEDS, digest, kind
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from numpy.typing import NDArray


def main(grpc_target: str, http_target: str, model: str, latents_file: str, token: str = "") -> None:
    latents = np.load(latents_file)
    headers = {"authorization": f"Bearer {token}"} if token else None
    seen = {
        "kserve grpc": asyncio.run(with_kserve_grpc(grpc_target, model, latents, headers)),
        "kserve rest": asyncio.run(with_kserve_rest(http_target, model, latents, headers)),
    }
    print(json.dumps(seen))


async def with_kserve_grpc(
    target: str, model: str, latents: NDArray[Any], headers: dict[str, str] | None
) -> dict[str, Any]:
    client = InferenceGRPCClient(target)
    metadata = tuple((headers or {}).items())

    async def images(name: str, rows: NDArray[Any]) -> str:
        reply = await client.infer(kserve_request(model, name, rows), headers=metadata)
        return digest(next(one for one in reply.outputs if one.name == "images").as_numpy())

    health = [await client.is_server_live(), await client.is_server_ready()]
    return {"health": health, "latents": await images("latents", latents), "seeds": await images("seeds", SEEDS)}


async def with_kserve_rest(
    target: str, model: str, latents: NDArray[Any], headers: dict[str, str] | None
) -> dict[str, Any]:
    client, url = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://{target}"

    async def images(name: str, rows: NDArray[Any]) -> str:
        reply: Any = await client.infer(url, kserve_request(model, name, rows), model_name=model, headers=headers)
        return digest(next(one for one in reply.outputs if one.name == "images").as_numpy())

    health = [await client.is_server_live(url), await client.is_server_ready(url)]
    return {"health": health, "latents": await images("latents", latents), "seeds": await images("seeds", SEEDS)}


def kserve_request(model: str, name: str, rows: NDArray[Any]) -> kserve.InferRequest:
    put = kserve.InferInput(name, list(rows.shape), kind(rows))
    put.set_data_from_numpy(rows, binary_data=False)
    return kserve.InferRequest(model_name=model, infer_inputs=[put])


main(*sys.argv[1:])
