"""TensorFlow Serving's REST API, and KServe's v1."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from any_message import torn
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference import Caller, array_of, inference
from PIL import Image
from web import Answer, Web

from progan_service.serving.server import Server

LATENTS = np.random.default_rng(5).standard_normal((3, 16)).astype(np.float32)
ROWS = LATENTS.tolist()
ROW = [1.0, 0.0, 0.0, 0.0]


def predict(web: Web, model: str, **content: Any) -> Answer:
    return web.post(f"/v1/models/{model}:predict", content)


@pytest.fixture
def expected(server_target: str) -> Iterator[Any]:
    """The images that gRPC gives for LATENTS."""
    caller = Caller(server_target)
    yield array_of(caller.send("ModelInfer", inference(latents=LATENTS)), "images")
    caller.channel.close()


# --- images ---


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"instances": ROWS}, "predictions"),
        ({"instances": [{"latents": row} for row in ROWS]}, "predictions"),
        ({"inputs": ROWS}, "outputs"),
        ({"inputs": {"latents": ROWS}}, "outputs"),
    ],
)
def test_rows_and_columns_give_the_images_of_grpc(tiny: Web, expected: Any, content: Any, key: str) -> None:
    answer = predict(tiny, "tiny", signature_name="generate_uint8", **content)
    assert (answer.status, answer.headers["content-type"], list(answer.json)) == (200, "application/json", [key])
    np.testing.assert_array_equal(np.array(answer.json[key]), expected)


def test_by_default_images_are_floats_from_0_to_1(tiny: Web, expected: Any) -> None:
    for more in ({}, {"signature_name": "serving_default"}, {"signature_name": ""}):
        images = np.array(predict(tiny, "tiny", instances=ROWS, **more).json["predictions"], np.float32)
        np.testing.assert_array_equal(images, expected.astype(np.float32) / np.float32(255))


def test_files_are_base64_in_objects(tiny: Web, expected: Any) -> None:
    answer = predict(tiny, "tiny", signature_name="generate_png", instances=ROWS)
    for prediction, image in zip(answer.json["predictions"], expected, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(prediction["b64"]))) as file:
            np.testing.assert_array_equal(np.asarray(file), image)


@pytest.mark.parametrize(
    "content",
    [
        {"instances": [7, 2**64 - 1]},
        {"instances": [[7], [2**64 - 1]]},
        {"instances": [{"seeds": 7}, {"seeds": 2**64 - 1}]},
        {"inputs": {"seeds": [7, 2**64 - 1]}},
    ],
)
def test_seeds_give_the_images_of_their_addresses(tiny: Web, content: Any) -> None:
    answer = predict(tiny, "tiny", signature_name="seeds_png", **content)
    [images] = answer.json.values()
    for image, seed in zip(images, (7, 2**64 - 1), strict=True):
        assert base64.b64decode(image["b64"]) == tiny.get(f"/v1/images/tiny/{seed}.png").body


def test_a_list_of_numbers_is_one_row(web: Web) -> None:
    answer = predict(web, "puppet", signature_name="generate_uint8", inputs=ROW)
    assert np.array(answer.json["outputs"]).tolist() == np.full((1, 4, 4, 3), 110).tolist()


def test_a_model_with_labels_takes_them_too(web: Web) -> None:
    instances = [{"latents": ROW, "labels": [0, 1]}, {"latents": ROW, "labels": [1, 0]}]
    answer = predict(web, "labelled", signature_name="generate_uint8", instances=instances)
    assert [image[0][0] for image in answer.json["predictions"]] == [[100] * 3, [0] * 3]
    columns = {"seeds": [1, 2], "labels": [[0, 1]]}
    answer = predict(web, "labelled", signature_name="seeds_uint8", inputs=columns)
    assert [image[0][0] for image in answer.json["outputs"]] == [[100] * 3] * 2


@pytest.mark.parametrize("path", ["puppet/versions/2", "puppet/labels/2", "PUPPET/versions/2"])
def test_a_version_is_in_the_path(web: Web, path: str) -> None:
    answer = predict(web, path, instances=[ROW])
    assert answer.status == (200 if path.startswith("puppet") else 404)  # the name of a model keeps its case
    assert web.post("/V1/Models/puppet:Predict", {"instances": [ROW]}).status == 200


# --- status and metadata ---


def test_status_is_of_all_versions_or_one(web: Web) -> None:
    answer = web.get("/v1/models/puppet").json
    assert (answer["name"], answer["ready"]) == ("puppet", True)
    states = {each["version"]: each["state"] for each in answer["model_version_status"]}
    assert states == {"3": "END", "2": "AVAILABLE", "1": "START"}
    failed = answer["model_version_status"][0]["status"]
    assert (failed["error_code"], "differs from what was published" in failed["error_message"]) == ("UNKNOWN", True)
    [one] = web.get("/v1/models/puppet/versions/2").json["model_version_status"]
    assert one == {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert web.get("/v1/models").json == {"models": ["labelled", "puppet", "wide"]}
    assert web.get("/").json == {"status": "alive"}


def test_metadata_lists_the_signatures(web: Web) -> None:
    answer = web.get("/v1/models/labelled/metadata").json
    assert answer["model_spec"] == {"name": "labelled", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert list(signatures) == ["serving_default", "generate_uint8", "generate_png", "seeds_uint8", "seeds_png"]
    assert signatures["seeds_png"]["outputs"] == {
        "image_bytes": {
            "dtype": "DT_STRING",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "image_bytes",
        }
    }
    latents, labels = signatures["serving_default"]["inputs"]["latents"], signatures["seeds_png"]["inputs"]["labels"]
    assert [dim["size"] for dim in latents["tensor_shape"]["dim"]] == ["-1", "4"]
    assert (labels["dtype"], labels["tensor_shape"]["dim"][1]["size"]) == ("DT_FLOAT", "2")


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "request: must have either instances or inputs"),
        (b"{", "request: is no JSON"),
        (b"[]", "request: must be a JSON object"),
        ({"instances": [ROW], "inputs": [ROW]}, "request: must have either instances or inputs"),
        ({"instances": {}}, "instances: must be a list"),
        ({"instances": []}, "instances: is empty; at least one image must be asked for"),
        ({"instances": [{"latents": ROW}, ROW]}, "instances: number 1 must be an object with latents"),
        ({"instances": [ROW, ROW[:3]]}, "latents: must be a list of rows of the same length"),
        ({"instances": [ROW, 7]}, "latents: must be a list of rows of the same length"),
        ({"instances": [["1", 0, 0, 0]]}, "latents: must be rows of numbers"),
        ({"instances": [[True, 0, 0, 0]]}, "latents: must be rows of numbers"),
        ({"instances": [[[1], 0, 0, 0]]}, "latents: must be rows of numbers"),
        ({"instances": [[1e39, 0, 0, 0]]}, "latents: row 0, column 0 is inf; must be finite"),
        ({"instances": [[10**400, 0, 0, 0]]}, "latents: holds a number that no float can be"),
        ({"instances": [[0, 0, 0, 0]]}, "latents: row 0 is all zero; a latent needs a direction"),
        ({"instances": [[1, 0, 0]]}, "latents: is 3; must be 4, the latent_size of the model"),
        ({"inputs": []}, "latents: is empty"),
        ({"inputs": {"latents": 7}}, "latents: must be a list"),
        ({"inputs": {"noise": [1]}}, "inputs: 'noise' is none; the inputs are latents, labels, seeds"),
        (
            {"inputs": {"seeds": [1]}},
            "inputs: must be latents for signature serving_default; extra: seeds; missing: la",
        ),
        ({"inputs": {}}, "inputs: must be latents for signature serving_default; extra: none; missing: latents"),
        ({"instances": [ROW], "signature_name": 7}, "signature_name: must be a text"),
        ({"instances": [ROW], "signature_name": "x"}, 'Serving signature name: "x" not found in signature def'),
        ({"instances": [-1], "signature_name": "seeds_png"}, "seeds: must be whole numbers from 0 to 2^64 - 1"),
        ({"instances": [1.0], "signature_name": "seeds_png"}, "seeds: must be whole numbers from 0 to 2^64 - 1"),
        ({"instances": [ROW] * 13}, "inputs: asks for 13 images; one call gives at most 12; send several requests"),
    ],
)
def test_what_breaks_a_rule_is_named(web: Web, content: Any, sentence: str) -> None:
    answer = web.post("/v1/models/puppet:predict", content)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "cats:predict", 404, "Servable not found for request: Latest(cats): no model 'cats'; this server has"),
        (
            "POST",
            "puppet/versions/9:predict",
            404,
            "Servable not found for request: Specific(puppet, 9): model 'puppet'",
        ),
        ("POST", "puppet/versions/1:predict", 400, "version 1 of model 'puppet' is not loaded"),
        ("POST", "puppet/versions/x:predict", 400, "version: is 'x'; must be a number"),
        ("POST", "puppet/labels/x:predict", 400, "Unrecognized servable version label: x; model 'puppet' has: none"),
        ("POST", "puppet:classify", 501, "this server has no classes and no numbers to predict"),
        ("POST", "puppet/versions/2:regress", 501, "this server has no classes and no numbers to predict"),
        ("GET", "cats", 404, "Could not find any versions of model cats"),
        ("GET", "puppet/versions/9", 404, "Could not find version 9 of model puppet"),
        ("GET", "cats/metadata", 404, "Servable not found for request: Latest(cats)"),
        ("GET", "puppet:predict", 405, "this path is answered for POST only"),
        ("POST", "puppet:explain", 404, "there is nothing at this path"),
    ],
)
def test_errors_are_tensorflow_servings(web: Web, method: str, path: str, status: int, sentence: str) -> None:
    answer = web.ask(method, f"/v1/models/{path}", json.dumps({"instances": [ROW]}) if method == "POST" else None)
    assert (answer.status, answer.json["error"][: len(sentence)]) == (status, sentence)


def test_a_token_is_needed(guarded: Server) -> None:
    stranger = Web(guarded.http_port)
    assert stranger.get("/v1/models/tiny").status == 401
    assert predict(stranger, "tiny", instances=ROWS).status == 401


# --- whatever is sent ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**65), 2**65) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["latents", "labels", "seeds", "b64", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(["instances", "inputs", "x"])
NAMES = st.sampled_from(["serving_default", "seeds_png", "generate_uint8"]) | VALUES


@settings(max_examples=200)
@given(
    st.dictionaries(KEYS, VALUES | st.just([[1.0, 0.0, 0.0, 0.0]]) | st.just([1, 2]), max_size=2),
    NAMES,
    st.sampled_from(["puppet", "labelled", "puppet/versions/2", "puppet/labels/x"]),
    st.data(),
)
def test_any_request_is_answered(web: Web, content: Any, name: Any, model: str, data: st.DataObject) -> None:
    body = json.dumps({**content, "signature_name": name}).encode("utf-8", "surrogatepass")
    answer = web.post(f"/v1/models/{model}:predict", data.draw(st.just(body) | torn(body)))
    assert answer.status in (200, 400)
    assert (answer.status == 200) == (b'"error"' not in answer.body)
    assert predict(web, "puppet", instances=[ROW]).status == 200
