"""The Open Inference Protocol by REST: as Triton's and KServe's clients were seen to call it."""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from any_message import torn
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference import Caller, array_of
from open_inference import inference as over_grpc
from web import Answer, Web

from progan_service.serving.server import Server

LATENTS = np.random.default_rng(5).standard_normal((3, 16)).astype(np.float32)
SEEDS = [1, 2**64 - 1]


def tensor(name: str, datatype: str, values: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(np.shape(values)), "data": values, **more}


def seeds(*values: int) -> dict[str, Any]:
    return tensor("seeds", "UINT64", list(values))


def infer(web: Web, model: str, **content: Any) -> Answer:
    return web.post(f"/v2/models/{model}/infer", content)


def outputs(answer: Answer) -> dict[str, Any]:
    """The outputs of a reply as arrays, or lists of files, wherever they stand."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    content, binary = json.loads(answer.body[:length]), answer.body[length:]
    found = {}
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        raw, binary = binary[: size or 0], binary[size or 0 :]
        if output["datatype"] == "BYTES":
            found[output["name"]] = [base64.b64decode(text) for text in output.get("data", [])] or raw
            continue
        kind = {"UINT8": "u1", "FP32": "<f4"}[output["datatype"]]
        values = np.frombuffer(raw, kind) if size is not None else np.array(output["data"], kind)
        found[output["name"]] = values.reshape(output["shape"])
    assert binary == b""
    return found


def with_binary(content: dict[str, Any], *arrays: Any) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(content).encode()
    body = b"".join((head, *(array.tobytes() for array in arrays)))
    return body, {"Inference-Header-Content-Length": str(len(head))}


BINARY = {"name": "latents", "datatype": "FP32", "shape": [3, 16], "parameters": {"binary_data_size": 192}}


@pytest.fixture
def expected(server_target: str) -> Iterator[Any]:
    """The images that gRPC gives for LATENTS."""
    caller = Caller(server_target)
    yield array_of(caller.send("ModelInfer", over_grpc(latents=LATENTS)), "images")
    caller.channel.close()


# --- the server and its models ---


def test_health_is_json_without_a_call(web: Web) -> None:
    for path, content in (("live", {"live": True}), ("ready", {"ready": True})):
        answer = web.get(f"/v2/health/{path}")
        assert (answer.status, answer.headers["content-type"], answer.json) == (200, "application/json", content)


@pytest.mark.parametrize(
    ("path", "status"),
    [("puppet", 200), ("puppet/versions/2", 200), ("puppet/versions/1", 503), ("cats", 503)],
)
def test_a_model_is_ready_or_not(web: Web, path: str, status: int) -> None:
    answer = web.get(f"/v2/models/{path}/ready")
    assert (answer.status, answer.json) == (status, {"ready": status == 200})


def test_the_server_and_its_models_describe_themselves(web: Web) -> None:
    assert "binary_tensor_data" in web.get("/v2").json["extensions"]
    assert web.get("/v2/models/labelled").json == {
        "name": "labelled",
        "versions": ["1"],
        "platform": "progan",
        "inputs": [
            {"name": "latents", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "seeds", "datatype": "UINT64", "shape": [-1, 1]},
            {"name": "labels", "datatype": "FP32", "shape": [-1, 2]},
        ],
        "outputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 4, 4, 3]}],
    }
    config = web.get("/v2/models/puppet/versions/2/config").json
    assert (config["name"], config["max_batch_size"], config["input"][0]["dims"]) == ("puppet", 12, [4])
    assert config["output"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [4, 4, 3]}]
    assert config["model_transaction_policy"] == {"decoupled": False}
    answer = web.get("/v2/models/cats")
    assert (answer.status, answer.json) == (404, {"error": "no model 'cats'; this server has: labelled, puppet, wide"})


def test_statistics_have_numbers(web: Web) -> None:
    infer(web, "wide", inputs=[seeds(1, 2)])
    [stats] = web.get("/v2/models/wide/stats").json["model_stats"]
    assert (stats["name"], stats["version"]) == ("wide", "1")
    assert stats["inference_count"] >= 2
    assert [each["name"] for each in web.get("/v2/models/stats").json["model_stats"]] == ["labelled", "puppet", "wide"]


def test_the_store_is_listed_and_decides(web: Web) -> None:
    index = web.post("/v2/repository/index", b"").json
    assert {"name": "puppet", "version": "2", "state": "READY", "reason": ""} in index
    ready = web.post("/v2/repository/index", {"ready": True}).json
    assert [(each["name"], each["version"]) for each in ready] == [("labelled", "1"), ("puppet", "2"), ("wide", "1")]
    assert web.post("/v2/repository/models/puppet/load", {}).status == 200
    answer = web.post("/v2/repository/models/puppet/unload", {"parameters": {"unload_dependents": False}})
    assert (answer.status, answer.json["error"][:50]) == (400, "the store decides which models are loaded; take 'p")
    answer = web.post("/v2/repository/models/puppet/load", {"parameters": {"config": "{}"}})
    assert (answer.status, answer.json["error"][:23]) == (400, "parameters: holds confi")
    assert web.post("/v2/repository/models/cats/load", {}).status == 404


def test_what_the_server_does_not_have_is_said(web: Web) -> None:
    assert web.get("/v2/models/puppet/trace/setting").json == {"trace_level": ["OFF"]}
    assert web.get("/v2/logging").json == {"log_info": True}
    assert web.post("/v2/trace/setting", {"trace_level": ["MAX"]}).status == 501
    assert web.post("/v2/logging", {"log_info": False}).status == 501
    for kind in ("system", "cuda"):
        assert web.get(f"/v2/{kind}sharedmemory/status").json == []
        assert web.post(f"/v2/{kind}sharedmemory/unregister", b"").status == 200
        answer = web.post(f"/v2/{kind}sharedmemory/region/mine/register", {"key": "/mine", "byte_size": 4})
        assert (answer.status, "shared memory is not supported" in answer.json["error"]) == (501, True)
    assert web.post("/v2/models/puppet/generate", {}).status == 404


# --- images ---


@pytest.mark.parametrize("binary_reply", [False, True])
@pytest.mark.parametrize("binary_request", [False, True])
def test_latents_give_the_images_of_grpc(tiny: Web, expected: Any, binary_request: bool, binary_reply: bool) -> None:
    wanted = {"outputs": [{"name": "images", "parameters": {"binary_data": binary_reply}}]}
    if binary_request:
        body, headers = with_binary({"inputs": [BINARY], **wanted}, LATENTS)
    else:
        body, headers = json.dumps({"inputs": [tensor("latents", "FP32", LATENTS.tolist())], **wanted}).encode(), {}
    answer = tiny.ask("POST", "/v2/models/tiny/infer", body, headers)
    assert answer.headers["content-type"] == f"application/{'octet-stream' if binary_reply else 'json'}"
    np.testing.assert_array_equal(outputs(answer)["images"], expected)


def test_without_outputs_a_parameter_makes_the_reply_binary(tiny: Web, expected: Any) -> None:
    inputs = [tensor("latents", "FP32", LATENTS.ravel().tolist()) | {"shape": [3, 16]}]
    answer = infer(tiny, "tiny", inputs=inputs, parameters={"binary_data_output": True})
    assert "inference-header-content-length" in answer.headers
    np.testing.assert_array_equal(outputs(answer)["images"], expected)


@pytest.mark.parametrize(("coding", "squeeze"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_the_header_counts_the_decompressed_body(tiny: Web, expected: Any, coding: str, squeeze: Any) -> None:
    body, headers = with_binary({"inputs": [BINARY]}, LATENTS)
    answer = tiny.ask("POST", "/v2/models/tiny/infer", squeeze(body), {"Content-Encoding": coding, **headers})
    np.testing.assert_array_equal(outputs(answer)["images"], expected)


def test_the_header_may_count_a_body_that_is_json_alone(tiny: Web) -> None:
    body, headers = with_binary({"inputs": [seeds(7)]})
    assert tiny.ask("POST", "/v2/models/tiny/infer", body, headers).status == 200


def test_several_outputs_come_in_their_order(tiny: Web) -> None:
    wanted = [{"name": "latents"}, {"name": "files"}, {"name": "images", "parameters": {"binary_data": True}}]
    answer = infer(tiny, "tiny", inputs=[seeds(*SEEDS)], outputs=wanted, id="844424930132059")
    found = outputs(answer)
    assert list(found) == ["latents", "files", "images"]
    assert found["latents"].shape == (2, 16)
    assert all(file.startswith(b"\x89PNG") for file in found["files"])
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    assert (head["model_name"], head["model_version"], head["id"]) == ("tiny", "1", "844424930132059")
    again = infer(tiny, "tiny", inputs=[tensor("latents", "FP32", found["latents"].tolist())])
    np.testing.assert_array_equal(outputs(again)["images"], found["images"])


def test_files_in_json_are_base64_and_say_so(tiny: Web) -> None:
    answer = infer(tiny, "tiny", inputs=[seeds(1)], parameters={"encoding": "png"})
    [output] = answer.json["outputs"]
    assert (output["datatype"], output["shape"], output["parameters"]) == ("BYTES", [1], {"content_encoding": "base64"})


def test_parameters_are_those_of_grpc(web: Web) -> None:
    for parameters in ({"seed": 7, "count": 2}, {"seed": "18446744073709551615", "count": 2.0}):
        assert outputs(infer(web, "puppet", parameters=parameters))["images"].shape == (2, 4, 4, 3)
    labelled = infer(web, "labelled", inputs=[seeds(1)], parameters={"label": "label 1"})
    assert outputs(labelled)["images"].max() == 100
    assert infer(web, "puppet/versions/2", inputs=[seeds(1)]).status == 200
    assert infer(web, "puppet/versions/nightly", inputs=[seeds(1)]).status == 404


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "inputs: has neither latents nor seeds, and there is no parameter seed; give one"),
        (b"{", "request: is no JSON"),
        (b"[" * 100_000, "request: is no JSON"),
        (b"[]", "request: must be a JSON object"),
        (b'{"id": 7}', "id: must be a text"),
        (b'{"inputs": {}}', "inputs: must be a list"),
        (b'{"inputs": [7]}', "inputs: must be an object"),
        ({"inputs": [seeds(-1)]}, "seeds.data: must lie between 0 and 18446744073709551615, as UINT64"),
        ({"inputs": [seeds(2**64)]}, "seeds.data: must lie between 0 and 18446744073709551615, as UINT64"),
        ({"inputs": [tensor("seeds", "UINT64", [1.5])]}, "seeds.data: must be numbers of datatype UINT64"),
        ({"inputs": [tensor("seeds", "UINT64", ["1"])]}, "seeds.data: must be numbers of datatype UINT64"),
        ({"inputs": [tensor("seeds", "UINT64", [True])]}, "seeds.data: must be numbers of datatype UINT64"),
        ({"inputs": [seeds(1) | {"data": 7}]}, "seeds.data: must be a list"),
        ({"inputs": [seeds(1) | {"shape": [2]}]}, "seeds: has 8 bytes; UINT64 of shape [2] takes 16"),
        ({"inputs": [seeds(1) | {"shape": [2**40, 2**40]}]}, "seeds: has 8 bytes; UINT64 of shape"),
        ({"inputs": [seeds(1) | {"shape": [2**63]}]}, "seeds.shape: must be a whole number from"),
        ({"inputs": [seeds(1) | {"shape": [1.0]}]}, "seeds.shape: must be a whole number from"),
        ({"inputs": [tensor("latents", "FP16", [1.0] * 4)]}, "latents: of datatype FP16 comes as binary data only"),
        ({"inputs": [tensor("latents", "BYTES", ["a"])]}, "latents: has datatype 'BYTES'; must be FP32, FP16, BF16"),
        ({"inputs": [tensor("latents", "FP32", [[10**400] * 4])]}, "latents.data: holds a number that no float can"),
        ({"inputs": [tensor("latents", "FP32", [[1e39] * 4])]}, "latents: row 0, column 0 is inf; must be finite"),
        ({"inputs": [BINARY]}, "latents.parameters.binary_data_size: must be a whole number from 0 to 0"),
        ({"parameters": {"seed": 2**64}}, "parameters.seed: must be a text, a number of 64 bits, true or false"),
        ({"parameters": {"seed": None}}, "parameters.seed: must be a text, a number of 64 bits, true or false"),
        ({"parameters": {"colour": 1}}, "parameters.colour: is no parameter; known are"),
        (b'{"parameters": {"label": "\\ud800"}}', "parameters.label: must be a text"),
        ({"inputs": [seeds(1)], "outputs": [{"name": "x"}]}, "outputs: 'x' is no output"),
    ],
)
def test_what_breaks_a_rule_is_named(web: Web, content: Any, sentence: str) -> None:
    answer = web.post("/v2/models/puppet/infer", content)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("x", "Inference-Header-Content-Length: is 'x'; must be a number of bytes"),
        ("-1", "Inference-Header-Content-Length: is '-1'; must be a number of bytes"),
        ("99999", "Inference-Header-Content-Length: is '99999'; must be a number of bytes"),
        ("2", "request: has 2 bytes of binary data that belong to no input"),
    ],
)
def test_binary_data_that_do_not_fit_are_refused(web: Web, header: str, sentence: str) -> None:
    answer = web.post("/v2/models/puppet/infer", b"{}ab", Inference_Header_Content_Length=header)
    assert (answer.status, answer.json["error"].startswith(sentence)) == (400, True)


def test_statuses_are_those_of_the_contract(web: Web, guarded: Server) -> None:
    shared = seeds(1) | {"parameters": {"shared_memory_region": "mine"}}
    assert infer(web, "puppet", inputs=[shared]).status == 501
    assert infer(web, "puppet", inputs=[seeds(1)], parameters={"timeout": 1}).status == 504
    assert infer(web, "puppet", inputs=[seeds(1) | {"data": [1] * 13, "shape": [13]}]).status == 400
    assert web.post("/v2/models/puppet/infer", b" " * (4 * 2**20 + 1)).status == 413
    stranger = Web(guarded.http_port)
    for answer in (stranger.get("/v2"), stranger.get("/v2/models/tiny/ready"), infer(stranger, "tiny")):
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


# --- whatever is sent ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**65), 2**65) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["inputs", "outputs", "parameters", "id", "seed", "count", "label", "x"])
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["seeds", "latents", "labels", "x"]) | VALUES,
        "datatype": st.sampled_from(["UINT64", "FP32", "FP64", "INT32", "BF16", "BYTES"]) | VALUES,
        "shape": st.lists(st.integers(-1, 4) | st.sampled_from([2**40, 2**63]), max_size=4) | VALUES,
        "data": st.lists(st.integers(0, 9) | st.floats(), max_size=8) | VALUES,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "classification"]), VALUES, max_size=2),
    },
)


@settings(max_examples=200)
@given(
    st.dictionaries(
        KEYS, VALUES | st.lists(TENSOR, max_size=3) | st.dictionaries(KEYS, VALUES, max_size=3), max_size=3
    ),
    st.none() | st.integers(-1, 200),
    st.data(),
)
def test_any_request_is_answered(web: Web, content: Any, length: int | None, data: st.DataObject) -> None:
    body = json.dumps(content).encode("utf-8", "surrogatepass")
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    answer = web.post("/v2/models/labelled/infer", data.draw(st.just(body) | torn(body)), **headers)
    assert answer.status in (200, 400, 501, 504)
    assert (answer.status == 200) == ("error" not in str(answer.body[:20]))
    assert infer(web, "puppet", inputs=[seeds(1)]).status == 200
