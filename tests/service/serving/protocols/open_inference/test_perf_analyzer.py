"""The calls of `perf_analyzer -m tiny -i grpc`, and `-i http`, without any other flag, in its order.

It sends both inputs with random bytes, not all of which are numbers, and ends at the first call that fails.
"""

import numpy as np
from open_inference import Caller, array_of, inference
from web import Web

from progan_service.serving.server import Server

RANDOM = np.frombuffer(bytes([255, 255, 192, 127] * 16), "<f4").reshape(1, 16)  # no numbers
SEED = np.array([1337], np.uint64)


def test_by_grpc(tiny: Caller) -> None:
    metadata = tiny.ask("ModelMetadata", name="tiny")
    config = tiny.ask("ModelConfig", name="tiny").config
    assert "statistics" in tiny.ask("ServerMetadata").extensions
    assert [(each.name, each.datatype) for each in metadata.inputs][:2] == [("latents", "FP32"), ("seeds", "UINT64")]
    assert [output.name for output in metadata.outputs] == ["images"]  # it asks for every output that is declared
    assert config.max_batch_size > 0  # else it asks for shapes
    assert not config.model_transaction_policy.decoupled

    before = tiny.ask("ModelStatistics", name="tiny").model_stats[0]
    ask = inference("tiny", outputs=["images"], parameters={"triton_final_response": True}, latents=RANDOM, seeds=SEED)
    for _ in range(2):
        assert array_of(tiny.send("ModelInfer", ask), "images").shape == (1, 8, 8, 3)
    after = tiny.ask("ModelStatistics", name="tiny").model_stats[0]
    assert after.inference_count >= before.inference_count + 2


def test_by_http(server: Server) -> None:
    web = Web(server.http_port)
    for path in ("/v2/models/tiny", "/v2/models/tiny/config", "/v2"):
        assert web.get(path).status == 200
    ask = {
        "inputs": [
            {"name": "latents", "datatype": "FP32", "shape": [1, 16], "data": [0.0] * 16},
            {"name": "seeds", "datatype": "UINT64", "shape": [1], "data": [1337]},
        ],
        "outputs": [{"name": "images", "parameters": {"binary_data": False}}],
    }
    whole = len(str(ask).replace("'", '"').replace("False", "false"))
    answer = web.post("/v2/models/tiny/infer", ask, Inference_Header_Content_Length=str(whole))
    assert answer.status == 200
    assert answer.json["outputs"][0]["shape"] == [1, 8, 8, 3]
