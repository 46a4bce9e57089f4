"""TensorFlow Serving's clients over gRPC. Tensors are made and read by TensorFlow itself."""

import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from any_message import any_message, put, torn, values_of
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference import Caller, array_of
from open_inference import inference as over_oip
from PIL import Image
from tf_serving import METHODS, Tensorflow, array, predict, tensor

from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.errors import InvalidArgument
from progan_service.serving.models.model import State
from progan_service.serving.protocols.tensorflow_serving import over_grpc
from progan_service.serving.protocols.tensorflow_serving.messages import (
    PredictRequest,
    SignatureDefMap,
    TensorProto,
)
from progan_service.serving.protocols.tensorflow_serving.servicer import _STATES
from progan_service.serving.protocols.tensorflow_serving.tensors import read_input, write_array

LATENTS = np.random.default_rng(5).standard_normal((3, 16)).astype(np.float32)
ROW = np.array([[1, 0, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def puppets(puppet_store: Path, run_server: Any) -> Iterator[Tensorflow]:
    batching = BatchingConfig(max_batch_size=4)
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="puppet", batching=batching)
    with run_server(config) as server:
        caller = Tensorflow(f"127.0.0.1:{server.port}")
        yield caller
        caller.channel.close()


@pytest.fixture
def tiny(server_target: str) -> Iterator[Tensorflow]:
    caller = Tensorflow(server_target)
    yield caller
    caller.channel.close()


@pytest.fixture
def expected(server_target: str) -> Iterator[Any]:
    """The images that the Open Inference Protocol gives for LATENTS."""
    caller = Caller(server_target)
    yield array_of(caller.send("ModelInfer", over_oip(latents=LATENTS)), "images")
    caller.channel.close()


# --- images ---


@pytest.mark.parametrize("signature", ["", "serving_default", "generate_uint8", "generate_png"])
def test_a_signature_says_what_comes_back(tiny: Tensorflow, expected: Any, signature: str) -> None:
    reply = tiny.send("Predict", predict("tiny", signature, latents=LATENTS))
    spec = reply.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", 1, signature or "serving_default")
    [(name, output)] = reply.outputs.items()
    if signature == "generate_png":
        assert name == "image_bytes"
        for file, image in zip(array(output), expected, strict=True):
            with Image.open(io.BytesIO(file)) as opened:
                np.testing.assert_array_equal(np.asarray(opened), image)
    elif signature == "generate_uint8":
        np.testing.assert_array_equal(array(output), expected)
    else:
        np.testing.assert_array_equal(array(output), (expected / 255).astype(np.float32))


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16"])
def test_floats_of_any_kind_are_converted(tiny: Tensorflow, kind: str) -> None:
    import tensorflow as tf

    given = tf.cast(LATENTS, kind).numpy()
    reply = tiny.send("Predict", predict("tiny", "generate_uint8", latents=tensor(given, kind)))
    exact = tiny.send("Predict", predict("tiny", "generate_uint8", latents=given.astype(np.float32)))
    np.testing.assert_array_equal(array(reply.outputs["images"]), array(exact.outputs["images"]))


@pytest.mark.parametrize("kind", ["int32", "int64", "uint32", "uint64"])
def test_seeds_of_any_kind_give_their_images(tiny: Tensorflow, kind: str) -> None:
    images = array(tiny.send("Predict", predict("tiny", "seeds_uint8", seeds=np.array([7, 8], kind))).outputs["images"])
    one = array(tiny.send("Predict", predict("tiny", "seeds_uint8", seeds=np.array([8], kind))).outputs["images"])
    np.testing.assert_array_equal(images[1], one[0])


def test_the_last_value_of_a_list_fills_the_shape(puppets: Tensorflow) -> None:
    filled = tensor(1.0, shape=[2, 4])
    assert list(filled.float_val) == [1.0]
    reply = puppets.send("Predict", predict("puppet", "generate_uint8", latents=filled))
    assert array(reply.outputs["images"])[:, 0, 0, 0].tolist() == [110, 110]
    listed = TensorProto(dtype="DT_FLOAT", float_val=[2.0, 0.0])
    listed.tensor_shape.dim.add(size=4)  # of one row
    reply = puppets.send("Predict", predict("puppet", "generate_uint8", latents=listed))
    assert array(reply.outputs["images"])[:, 0, 0, 0].tolist() == [120]


def test_a_large_reply_is_written_beside_the_event_loop(puppets: Tensorflow, monkeypatch: pytest.MonkeyPatch) -> None:
    written = dict[str, str]()

    def note(tensor: Any, kind: str, values: Any) -> None:
        written["large" if len(values) == 6 else "small"] = threading.current_thread().name
        write_array(tensor, kind, values)

    monkeypatch.setattr(over_grpc, "write_array", note)
    six = np.repeat(ROW, 6, axis=0)
    for rows in (ROW, six):  # of 256x256 pixels
        images = array(puppets.send("Predict", predict("wide", latents=rows)).outputs["images"])
        assert (images.shape, images.max()) == ((len(rows), 256, 256, 3), np.float32(110 / 255))
    assert (written["small"], written["large"][:7]) == ("server", "asyncio")


def test_labels_versions_and_filters(puppets: Tensorflow) -> None:
    labels = np.array([[0, 1]], np.float32)
    reply = puppets.send("Predict", predict("labelled", "seeds_uint8", seeds=np.array([1]), labels=labels))
    assert array(reply.outputs["images"]).max() == 100
    for chosen in ({"version": 2}, {"label": "2"}):  # digits that are no label: some clients send that
        assert puppets.send("Predict", predict("puppet", latents=ROW, **chosen)).model_spec.version.value == 2
    request = predict("puppet", latents=ROW)
    request.output_filter.append("images")
    assert list(puppets.send("Predict", request).outputs) == ["images"]


# --- what is said about models ---


def test_metadata_unpacks_to_the_signatures(puppets: Tensorflow) -> None:
    reply = puppets.ask("GetModelMetadata", model_spec={"name": "labelled"}, metadata_field=["signature_def"])
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("labelled", 1)
    unpacked = SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(unpacked)
    default = unpacked.signature_def["serving_default"]
    assert sorted(default.inputs) == ["labels", "latents"]
    assert [dim.size for dim in default.outputs["images"].tensor_shape.dim] == [-1, 4, 4, 3]
    assert puppets.ask("GetModelMetadata", model_spec={"name": "labelled"}).metadata == {}


def test_status_is_of_all_versions_or_one(puppets: Tensorflow) -> None:
    found = puppets.ask("GetModelStatus", model_spec={"name": "puppet"}).model_version_status
    assert [(each.version, each.state) for each in found] == [(3, 50), (2, 30), (1, 10)]  # END, AVAILABLE, START
    assert [each.status.error_code for each in found] == [2, 0, 0]
    one = {"name": "puppet", "version": {"value": 2}}
    assert [each.version for each in puppets.ask("GetModelStatus", model_spec=one).model_version_status] == [2]


def test_every_state_of_a_version_has_its_name_in_tensorflow_serving() -> None:
    assert {state.name: name for state, name in _STATES.items()} == {
        "AVAILABLE": "START",  # in the store, not loaded
        "LOADING": "LOADING",
        "READY": "AVAILABLE",
        "DRAINING": "UNLOADING",
        "FAILED": "END",
    }
    assert set(_STATES) == set(State)


# --- what is refused ---


def content(shape: list[int], **values: Any) -> Any:
    made = TensorProto(dtype=values.pop("dtype", "DT_FLOAT"), **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


FIRST = content([1, 4], float_val=[1, 0, 0, 0])
SEED = content([1], dtype="DT_INT64", int64_val=[1])


def filtered(*names: str) -> Any:
    request = predict("puppet", latents=FIRST)
    request.output_filter.extend(names)
    return request


REFUSALS = {
    "no spec": (PredictRequest(), "INVALID_ARGUMENT model_spec: Missing ModelSpec"),
    "no name": (predict(""), "INVALID_ARGUMENT model_spec.name: ModelSpec has no name specified."),
    "no such model": (predict("cats"), "NOT_FOUND Servable not found for request: Latest(cats)"),
    "no such version": (predict("puppet", version=9), "NOT_FOUND Servable not found for request: Specific(puppet, 9)"),
    "version below 1": (predict("puppet", version=-1), "INVALID_ARGUMENT model_spec.version: is -1"),
    "no such label": (predict("puppet", label="x"), "INVALID_ARGUMENT Unrecognized servable version label: x"),
    "no such signature": (
        predict("puppet", "x", latents=FIRST),
        'FAILED_PRECONDITION Serving signature name: "x" not found in signature def',
    ),
    "other inputs": (
        predict("puppet", seeds=SEED),
        "INVALID_ARGUMENT inputs: must be latents for signature serving_default; extra: seeds; missing: latents",
    ),
    "unknown input": (predict("puppet", x=FIRST), "INVALID_ARGUMENT inputs: 'x' is none; the inputs are"),
    "unknown output": (filtered("x"), "INVALID_ARGUMENT output_filter: output tensor alias not found in signature: x"),
    "output twice": (filtered("images", "images"), "INVALID_ARGUMENT output_filter: duplicate output tensor alias"),
    "no values": (predict("puppet", latents=content([1, 4])), "INVALID_ARGUMENT latents: has no values"),
    "huge": (
        predict("puppet", latents=content([10**9, 512], float_val=[1.0])),
        "INVALID_ARGUMENT latents: has 1 values, and its shape takes 512000000000",
    ),
    "too many values": (
        predict("puppet", latents=content([1, 1], float_val=[1.0, 2.0])),
        "INVALID_ARGUMENT latents: has 2 values, and its shape takes 1",
    ),
    "torn content": (
        predict("puppet", latents=content([1, 4], tensor_content=b"abc")),
        "INVALID_ARGUMENT latents: has 3 bytes; DT_FLOAT of [1, 4] takes 16",
    ),
    "other dtype": (
        predict("puppet", latents=content([1, 4], dtype="DT_INT32", int_val=[1])),
        "INVALID_ARGUMENT latents: has dtype DT_INT32; must be DT_FLOAT",
    ),
    "no shape": (predict("puppet", latents=content([], float_val=[1.0])), "INVALID_ARGUMENT latents: has shape []"),
    "negative seed": (
        predict("puppet", "seeds_png", seeds=content([1], dtype="DT_INT64", int64_val=[-1])),
        "INVALID_ARGUMENT seeds: holds -1; a seed is 0 to 2^64 - 1",
    ),
}


@pytest.mark.parametrize("wrong", REFUSALS)
def test_what_breaks_a_rule_is_named(puppets: Tensorflow, wrong: str) -> None:
    request, sentence = REFUSALS[wrong]
    assert puppets.refusal("Predict", request)[: len(sentence)] == sentence


def test_what_is_not_there_is_said(puppets: Tensorflow) -> None:
    cats = {"name": "cats"}
    assert puppets.refusal("GetModelStatus").startswith("INVALID_ARGUMENT model_spec: Missing ModelSpec")
    assert puppets.refusal("GetModelStatus", model_spec=cats).startswith(
        "NOT_FOUND Could not find any versions of model cats"
    )
    ninth = {"name": "puppet", "version": {"value": 9}}
    assert puppets.refusal("GetModelStatus", model_spec=ninth) == ("NOT_FOUND Could not find version 9 of model puppet")
    assert puppets.refusal("GetModelMetadata").startswith("INVALID_ARGUMENT model_spec: Missing ModelSpec")
    assert puppets.refusal("GetModelMetadata", model_spec=cats, metadata_field=["x"]) == (
        "INVALID_ARGUMENT metadata_field: Metadata field x is not supported"
    )
    for rpc in ("Classify", "Regress", "MultiInference", "HandleReloadConfigRequest"):
        assert puppets.refusal(rpc).startswith("UNIMPLEMENTED this server has no classes")


def test_one_value_for_a_huge_shape_is_refused_before_memory_is_taken() -> None:
    bomb = content([10**9, 128], float_val=[1.0])
    tracemalloc.start()
    with pytest.raises(InvalidArgument, match="latents: has 1 values, and its shape takes 128000000000"):
        read_input("latents", bomb)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 100_000


def test_a_reply_of_floats_counts_four_times(puppet_store: Path, run_server: Any) -> None:
    config = ServerConfig(puppet_store, port=0, http_port=0, lame_duck_s=0, model="wide", max_reply_bytes=4 * 2**20)
    with run_server(config) as server:
        caller = Tensorflow(f"127.0.0.1:{server.port}")
        ten = np.repeat(ROW, 10, axis=0)
        assert (
            len(array(caller.send("Predict", predict("wide", "generate_uint8", latents=ten)).outputs["images"])) == 10
        )
        assert "a reply holds at most 4194304" in caller.refusal("Predict", predict("wide", latents=ten))
        caller.channel.close()


# --- whatever is sent ---

SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "tensorflow.serving.ModelSpec.name": st.sampled_from(["puppet", "labelled", "", "cats"]),
    "tensorflow.serving.ModelSpec.signature_name": st.sampled_from(["", "generate_uint8", "seeds_png", "x"]),
    "tensorflow.serving.PredictRequest.InputsEntry.key": st.sampled_from(["latents", "seeds", "labels", "x"]),
    "tensorflow.TensorProto.dtype": st.sampled_from([1, 2, 3, 9, 14, 19, 22, 23, 7, 99]),
    "tensorflow.TensorShapeProto.Dim.size": st.integers(0, 4) | st.sampled_from([-1, 2**40, 2**63 - 1]),
}
ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}


def code(caller: Tensorflow, rpc: str, data: bytes) -> str:
    try:
        caller.send(rpc, data)
    except grpc.RpcError as error:
        name: str = error.code().name  # type: ignore[attr-defined]
        return name
    return "OK"


@st.composite
def any_request(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good request of which some fields have got any values, or any message; whole or torn."""
    rpc = draw(st.sampled_from(sorted(METHODS)) | st.just("Predict"))
    kind = METHODS[rpc].input_type
    if draw(st.booleans()) or not kind.fields:
        request = draw(any_message(kind, SPECIAL))
    else:
        request = predict("puppet", latents=ROW) if rpc == "Predict" else GetMessageClass(kind)()
        field = draw(st.sampled_from(list(kind.fields)))
        put(request, field, draw(values_of(field, SPECIAL)))
    data = request.SerializeToString()
    return rpc, draw(st.just(data) | torn(data))


@settings(max_examples=200)
@given(any_request())
def test_any_request_is_answered_by_the_contract(puppets: Tensorflow, said: tuple[str, bytes]) -> None:
    assert code(puppets, *said) in ANSWERS
    assert code(puppets, "Predict", predict("puppet", latents=ROW).SerializeToString()) == "OK"
