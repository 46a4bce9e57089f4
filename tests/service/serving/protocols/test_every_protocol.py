"""Whatever protocol a caller speaks: the same images, the same batches, and an overload in its own words."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from numpy.typing import NDArray
from open_inference import Caller, array_of, inference
from tf_serving import Tensorflow, array, predict
from web import Answer, Web

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server

PATIENCE_S = 60
GENERATE = "/progan.v1.ImageGeneratorService/Generate"
WAIT = np.array([[0, 0, 99, 0]], np.float32)  # of a puppet: keeps the device busy while there is the file `.hold`

Rows = NDArray[np.float32]


class RefusedError(Exception):
    """A call was refused. Its arguments are what the caller was told."""


# --- the protocols: pixels uint8 [N, H, W, C] of latents float32 [N, L] ---


def by_progan_v1(server: Server, model: str, rows: Rows) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = pb_grpc.ImageGeneratorServiceStub(channel)
        return pixels(of_grpc(lambda: stub.Generate(request(model, rows), timeout=PATIENCE_S)))


def by_open_inference(server: Server, model: str, rows: Rows) -> Any:
    caller = Caller(f"127.0.0.1:{server.port}")
    with closing(caller.channel):
        return array_of(of_grpc(lambda: caller.send("ModelInfer", inference(model, latents=rows))), "images")


def by_tensorflow_serving(server: Server, model: str, rows: Rows) -> Any:
    caller = Tensorflow(f"127.0.0.1:{server.port}")
    with closing(caller.channel):
        reply = of_grpc(lambda: caller.send("Predict", predict(model, "generate_uint8", latents=rows)))
        return array(reply.outputs["images"])


def by_rest_v2(server: Server, model: str, rows: Rows) -> Any:
    tensor = {"name": "latents", "datatype": "FP32", "shape": list(rows.shape), "data": rows.tolist()}
    reply = of_http(Web(server.http_port).post(f"/v2/models/{model}/infer", {"inputs": [tensor]}))
    [output] = reply["outputs"]
    return np.array(output["data"], np.uint8).reshape(output["shape"])


def by_rest_v1(server: Server, model: str, rows: Rows) -> Any:
    content = {"signature_name": "generate_uint8", "instances": rows.tolist()}
    reply = of_http(Web(server.http_port).post(f"/v1/models/{model}:predict", content))
    return np.array(reply["predictions"], np.uint8)


def by_connect(server: Server, model: str, rows: Rows) -> Any:
    reply = of_http(Web(server.http_port).post(GENERATE, json_format.MessageToDict(request(model, rows))))
    return pixels(json_format.ParseDict(reply, pb.GenerateResponse()))


def by_grpc_web(server: Server, model: str, rows: Rows) -> Any:
    sent = request(model, rows).SerializeToString()
    body = Web(server.http_port).post(GENERATE, frame(0, sent), "application/grpc-web+proto").body
    parts = []
    while body:
        length = 5 + int.from_bytes(body[1:5], "big")
        parts.append((body[0], body[5:length]))
        body = body[length:]
    *messages, (flags, trailers) = parts
    assert flags == 0x80
    if not trailers.startswith(b"grpc-status: 0\r\n"):
        raise RefusedError(trailers.split(b"\r\n")[0].decode())
    return pixels(pb.GenerateResponse.FromString(messages[0][1]))


def request(model: str, rows: Rows) -> pb.GenerateRequest:
    values = rows.astype("<f4").tobytes()
    vectors = pb.FloatMatrix(rows=rows.shape[0], columns=rows.shape[1], values=values)
    return pb.GenerateRequest(model=pb.ModelSelector(name=model), latents=pb.Latents(vectors=vectors))


def frame(flags: int, content: bytes) -> bytes:
    return bytes([flags]) + len(content).to_bytes(4, "big") + content


def pixels(reply: pb.GenerateResponse) -> Any:
    images = reply.images
    return np.frombuffer(images.pixels, np.uint8).reshape(images.count, images.height, images.width, images.channels)


def of_grpc(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except grpc.RpcError as error:
        refused: Any = error
        pushback_ms = int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"])
        raise RefusedError(refused.code().name, "a time to come back" if pushback_ms > 0 else "none") from None


def of_http(answer: Answer) -> Any:
    if answer.status == 200:
        return answer.json
    seconds = int(answer.headers["retry-after"])
    raise RefusedError(
        answer.status, answer.json.get("code", "error"), "a time to come back" if seconds > 0 else "none"
    )


PROTOCOLS = {
    "progan.v1": by_progan_v1,
    "inference.GRPCInferenceService": by_open_inference,
    "tensorflow.serving.PredictionService": by_tensorflow_serving,
    "REST v2": by_rest_v2,
    "REST v1": by_rest_v1,
    "Connect": by_connect,
    "gRPC-Web": by_grpc_web,
}
OVERLOAD = {
    "progan.v1": ("RESOURCE_EXHAUSTED", "a time to come back"),
    "inference.GRPCInferenceService": ("RESOURCE_EXHAUSTED", "a time to come back"),
    "tensorflow.serving.PredictionService": ("RESOURCE_EXHAUSTED", "a time to come back"),
    "REST v2": (429, "error", "a time to come back"),
    "REST v1": (429, "error", "a time to come back"),
    "Connect": (429, "resource_exhausted", "a time to come back"),
    "gRPC-Web": ("grpc-status: 8",),
}


@pytest.fixture(scope="module")
def puppets(puppet_store: Path, run_server: Any) -> Iterator[Server]:
    """A server of puppets: an image for each protocol fills a batch, and the queue."""
    count = len(PROTOCOLS)
    batching = BatchingConfig(max_batch_size=count, allowed_batch_sizes=(count,), max_queued_rows=count)
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet", batching=batching)
    with run_server(config) as server:
        yield server


def metric(server: Server, sample: str) -> float:
    lines = Web(server.http_port).get("/metrics").body.decode().splitlines()
    return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample + " "))


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_latents_give_the_same_bytes(server: Server, protocol: str) -> None:
    rows = np.random.default_rng(5).standard_normal((3, 16)).astype(np.float32)
    expected = by_progan_v1(server, "tiny", rows)
    assert expected.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(PROTOCOLS[protocol](server, "tiny", rows), expected)


def test_a_batch_holds_callers_of_all_protocols_and_a_full_queue_refuses_each_in_its_own_words(
    puppets: Server, hold: Path
) -> None:
    batches, rows = ("progan_batch_rows_count", "progan_batch_rows_sum")
    shades = {protocol: np.array([[shade, 0, 0, 1]], np.float32) for shade, protocol in enumerate(PROTOCOLS)}
    with ThreadPoolExecutor(len(PROTOCOLS) + 1) as callers:
        running = callers.submit(by_progan_v1, puppets, "puppet", WAIT)
        until(lambda: metric(puppets, batches) == 1)  # the device is busy from now on
        waiting = {
            protocol: callers.submit(ask, puppets, "puppet", shades[protocol]) for protocol, ask in PROTOCOLS.items()
        }
        until(lambda: metric(puppets, 'progan_queue_rows{model="puppet",priority="interactive"}') == len(PROTOCOLS))
        for protocol, ask in PROTOCOLS.items():
            with pytest.raises(RefusedError) as refused:
                ask(puppets, "puppet", shades[protocol])
            assert refused.value.args == OVERLOAD[protocol], protocol
        hold.unlink()
        assert running.result().shape == (1, 4, 4, 3)
        greys = [waiting[protocol].result()[0, 0, 0, 0] for protocol in PROTOCOLS]
    assert greys == [100, 110, 120, 130, 140, 150, 160]
    assert (metric(puppets, batches), metric(puppets, rows)) == (2, 1 + len(PROTOCOLS))
