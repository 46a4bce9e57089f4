"""Whatever comes in by the Open Inference Protocol, what goes out is a status of the contract."""

from typing import Any

import grpc
import numpy as np
from any_message import any_message, put, torn, values_of
from google.protobuf import descriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from open_inference import Caller, inference

from progan_service.serving.protocols.open_inference.messages import SERVICE, ModelInferRequest

PATIENCE_S = 60
METHODS = {method.name: method for method in SERVICE.methods}
ANSWERS = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"),
    *("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"),
}

NAMES = st.sampled_from(["puppet", "labelled", "", "cats", "\N{CAT}" * 40_000]) | st.text(max_size=20)
PARAMETERS = st.sampled_from(
    ["encoding", "quality", "label", "version_label", "priority", "seed", "frames_between", "path", "loop"]
)
# Mostly words that the server knows, so that what follows them is reached.
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "inference.ModelInferRequest.model_name": NAMES,
    "inference.ModelInferRequest.model_version": st.sampled_from(["", "2", "9" * 40, "stable", "\0"]),
    "inference.ModelInferRequest.ParametersEntry.key": PARAMETERS | st.text(max_size=20),
    "inference.ModelInferRequest.InferInputTensor.name": st.sampled_from(["latents", "seeds", "labels", "", "x"]),
    "inference.ModelInferRequest.InferInputTensor.datatype": st.sampled_from(
        ["FP32", "FP64", "FP16", "BF16", "UINT64", "INT64", "BYTES", "", "fp32"]
    ),
    "inference.ModelInferRequest.InferInputTensor.shape": st.lists(
        st.integers(0, 4) | st.sampled_from([-1, 2**40, 2**63 - 1]), max_size=4
    ),
    "inference.ModelInferRequest.InferRequestedOutputTensor.name": st.sampled_from(["images", "files", "latents", "x"]),
}


def good(name: str) -> Any:
    if METHODS[name].input_type is ModelInferRequest.DESCRIPTOR:
        return inference("labelled", seeds=np.array([1, 2]), labels=np.ones((1, 2), np.float32))
    return GetMessageClass(METHODS[name].input_type)()


@st.composite
def any_request(draw: st.DrawFn) -> tuple[str, Any]:
    """A good request of which some fields have got any values; or one without a good word."""
    name = draw(st.sampled_from(sorted(METHODS)) | st.just("ModelInfer"))
    kind: descriptor.Descriptor = METHODS[name].input_type
    if draw(st.integers(0, 4)) == 0:
        return name, draw(any_message(kind, SPECIAL))
    request = good(name)
    for field in draw(st.lists(st.sampled_from(list(kind.fields)), max_size=2)) if kind.fields else ():
        put(request, field, draw(values_of(field, SPECIAL)))
    return name, request


def send(caller: Caller, name: str, data: bytes) -> str:
    """The code of the answer; a stream is one request long, and left after three messages."""
    path = f"/{SERVICE.full_name}/{name}"
    try:
        if not METHODS[name].client_streaming:
            caller.channel.unary_unary(path)(data, timeout=PATIENCE_S)
            return "OK"
        replies = caller.channel.stream_stream(path)(iter([data]), timeout=PATIENCE_S)
        for _, reply in zip(range(3), replies, strict=False):
            assert b"internal error" not in reply
        replies.cancel()
    except grpc.RpcError as error:
        code: str = error.code().name  # type: ignore[attr-defined]
        return code
    return "OK"


def is_answered_well(caller: Caller) -> bool:
    return bool(caller.send("ModelInfer", inference("puppet", seeds=np.array([1]))).outputs)


@settings(max_examples=150)
@given(any_request())
def test_messages_of_any_content_are_answered_by_the_contract(caller: Caller, said: tuple[str, Any]) -> None:
    name, request = said
    assert send(caller, name, request.SerializeToString()) in ANSWERS
    assert is_answered_well(caller)


@settings(max_examples=100)
@given(any_request().flatmap(lambda said: st.tuples(st.just(said[0]), torn(said[1].SerializeToString()))))
def test_bytes_of_any_kind_are_answered_by_the_contract(caller: Caller, said: tuple[str, bytes]) -> None:
    assert send(caller, *said) in ANSWERS
    assert is_answered_well(caller)
