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
        "kserve rest v1": asyncio.run(with_kserve_v1(http_target, model, latents, headers)),
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

    raw = await client.infer(kserve_request(model, "latents", latents, binary_data=True), headers=metadata)
    return {
        "health": [await client.is_server_live(), await client.is_server_ready()],
        "latents": await images("latents", latents),
        "seeds": await images("seeds", SEEDS),
        "binary": digest(raw.outputs[0].as_numpy()),
    }


async def with_kserve_rest(
    target: str, model: str, latents: NDArray[Any], headers: dict[str, str] | None
) -> dict[str, Any]:
    client, url = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://{target}"

    async def images(name: str, rows: NDArray[Any]) -> str:
        reply: Any = await client.infer(url, kserve_request(model, name, rows), model_name=model, headers=headers)
        return digest(next(one for one in reply.outputs if one.name == "images").as_numpy())

    async def refusal(rows: NDArray[Any]) -> str:
        try:
            await images("latents", rows)
        except Exception as error:
            return str(error)
        return ""

    binary = kserve_request(model, "latents", latents, binary_data=True)
    raw: Any = await client.infer(url, binary, model_name=model, headers=dict(headers or {}))
    plain = {"inputs": [{"name": "latents", "datatype": "FP32", "shape": [*latents.shape], "data": latents.tolist()}]}
    listed: Any = await client.infer(url, plain, model_name=model, headers=headers)
    return {
        "health": [await client.is_server_live(url), await client.is_server_ready(url)],
        "latents": await images("latents", latents),
        "seeds": await images("seeds", SEEDS),
        "binary": digest(raw.outputs[0].as_numpy()),
        "dict": digest(listed.outputs[0].as_numpy()),
        "refusals": {"infer": await refusal(latents[:, :5])},
    }


async def with_kserve_v1(
    target: str, model: str, latents: NDArray[Any], headers: dict[str, str] | None
) -> dict[str, Any]:
    client, url = InferenceRESTClient(RESTConfig(protocol="v1")), f"http://{target}"

    async def images(signature: str, rows: NDArray[Any]) -> str:
        content = {"signature_name": signature, "instances": rows.tolist()}
        reply: Any = await client.infer(url, content, model_name=model, headers=headers)
        return digest(reply["predictions"])

    return {
        "health": [await client.is_server_live(url), await client.is_model_ready(url, model, headers=headers)],
        "latents": await images("generate_uint8", latents),
        "seeds": await images("seeds_uint8", SEEDS),
    }


def kserve_request(model: str, name: str, rows: NDArray[Any], *, binary_data: bool = False) -> kserve.InferRequest:
    put = kserve.InferInput(name, list(rows.shape), kind(rows))
    put.set_data_from_numpy(rows, binary_data=binary_data)
    return kserve.InferRequest(model_name=model, infer_inputs=[put])


main(*sys.argv[1:])
