"""Whatever comes in over HTTP, what goes out is an answer of the contract."""

import json
from typing import Any
from urllib.parse import quote, urlencode

from any_message import any_message, torn
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from web import Answer, Web

from progan_protos.v1 import image_generator_pb2 as pb

SERVICE = "/progan.v1.ImageGeneratorService"
METHODS = pb.DESCRIPTOR.services_by_name["ImageGeneratorService"].methods_by_name
CODES = {200, 304, 400, 404, 413, 415, 429, 501, 504}
ONE = "/v1/images/puppet/7.png"


def is_good(web: Web, answer: Answer) -> bool:
    assert b"internal error" not in answer.body
    return answer.status in CODES and web.get(ONE).status == 200


KEYS = st.sampled_from(
    ["model", "name", "latents", "seeds", "seedRange", "count", "vectors", "rows", "columns", "values", "format"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**65), 2**65) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(st.sampled_from(sorted(METHODS)), st.dictionaries(KEYS, JSON, max_size=4))
def test_any_json_is_answered(web: Web, method: str, content: Any) -> None:
    assert is_good(web, web.post(f"{SERVICE}/{method}", json.dumps(content).encode("utf-8", "surrogatepass")))


@st.composite
def any_call(draw: st.DrawFn) -> tuple[str, bytes]:
    method = METHODS[draw(st.sampled_from(sorted(METHODS)))]
    message = draw(any_message(method.input_type, {"progan.v1.ModelSelector.name": st.sampled_from(["", "labelled"])}))
    kind = draw(st.sampled_from(["json", "proto"]))
    data = json_format.MessageToJson(message).encode() if kind == "json" else message.SerializeToString()
    return f"{SERVICE}/{method.name}", draw(st.just(data) | torn(data))


KINDS = ["json", "proto", "connect+json", "connect+proto", "grpc-web", "grpc-web+proto", "grpc-web-text", "x"]
FRAME = st.sampled_from([b"", b"\0\0\0\0\2", b"\0\0\0\0\0", b"\1\0\0\0\1", b"\2\0\0\0\0", b"AAAA"])


@settings(max_examples=150)
@given(any_call(), st.sampled_from(KINDS), FRAME)
def test_any_message_in_any_style_is_answered(web: Web, call: tuple[str, bytes], kind: str, frame: bytes) -> None:
    path, data = call
    if frame == b"\0\0\0\0\2":
        frame = b"\0" + len(data).to_bytes(4, "big")
    answer = web.post(path, frame + data, f"application/{kind}", Connect_Timeout_Ms="2000")
    assert is_good(web, answer)


@settings(max_examples=100)
@given(
    st.sampled_from(["puppet", "labelled", "cats"]) | st.text(max_size=20),
    st.integers(-1, 2**64) | st.text(max_size=20),
    st.sampled_from(["png", "jpg", "webp"]) | st.text(max_size=8),
    st.dictionaries(st.sampled_from(["version", "label", "quality", "x"]), st.text(max_size=8) | st.integers()),
    st.sampled_from(["", "*", '"a"', 'W/"', ",,"]),
)
def test_any_address_is_answered(web: Web, model: str, seed: Any, kind: str, query: Any, known: str) -> None:
    words = [quote(str(word).encode("utf-8", "replace"), safe="") for word in (model, seed, kind)]
    path = "/v1/images/{}/{}.{}?".format(*words)
    named = urlencode({name: str(value).encode("utf-8", "replace") for name, value in query.items()})
    assert is_good(web, web.get(path + named, If_None_Match=known))
