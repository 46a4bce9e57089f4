"""The service of progan.v1 by Connect and gRPC-Web: the same images, and errors in each protocol's words."""

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from web import Answer, Web

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.server import Server

SERVICE = "/progan.v1.ImageGeneratorService"
TWO = {"latents": {"seedRange": {"firstSeed": "7", "count": 2}}}
PNG = {**TWO, "format": {"encoding": "IMAGE_ENCODING_PNG"}}
WALK = {"keyFrames": {"seedRange": {"count": 2}}, "framesBetween": 3}
NO_CATS = "no model 'cats'; this server has: labelled, puppet, wide"


def binary(content: Any, kind: Any = pb.GenerateRequest) -> bytes:
    data: bytes = json_format.ParseDict(content, kind()).SerializeToString()
    return data


def framed(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """Flags and content of each frame."""
    found = []
    while body:
        length = int.from_bytes(body[1:5], "big")
        assert len(body) >= 5 + length
        found.append((body[0], body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def of_grpc(server: Server, content: Any) -> pb.GenerateResponse:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = pb_grpc.ImageGeneratorServiceStub(channel)
        return stub.Generate(json_format.ParseDict(content, pb.GenerateRequest()), timeout=60)


# --- one reply ---


@pytest.mark.parametrize("content", [TWO, PNG])
def test_json_gives_the_images_of_grpc(server: Server, tiny: Web, content: Any) -> None:
    answer = tiny.post(f"{SERVICE}/Generate", content)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    reply, expected = json_format.Parse(answer.body, pb.GenerateResponse()), of_grpc(server, content)
    assert (reply.images, reply.latents, reply.model) == (expected.images, expected.latents, expected.model)


def test_protobuf_gives_the_images_of_grpc(server: Server, tiny: Web) -> None:
    answer = tiny.post(f"{SERVICE}/Generate", binary(PNG), "application/proto")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/proto")
    assert pb.GenerateResponse.FromString(answer.body).images == of_grpc(server, PNG).images


def test_fields_may_be_written_as_in_the_proto(tiny: Web) -> None:
    answer = tiny.post(f"{SERVICE}/Generate", {"latents": {"seed_range": {"first_seed": 7, "count": 1}}})
    assert answer.json["images"]["count"] == 1


def test_models_are_described(web: Web) -> None:
    assert [model["name"] for model in web.post(f"{SERVICE}/ListModels", {}).json["models"]] == [
        *("labelled", "puppet", "wide"),
    ]
    assert web.post(f"{SERVICE}/ListModels", b"").status == 200
    assert web.post(f"{SERVICE}/GetModel", {"name": "puppet"}).json["model"]["servingVersion"] == "2"


@pytest.mark.parametrize(("coding", "squeeze"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_request_may_be_compressed(tiny: Web, coding: str, squeeze: Any) -> None:
    answer = tiny.post(f"{SERVICE}/Generate", squeeze(json.dumps(TWO).encode()), Content_Encoding=coding)
    assert answer.json["images"]["count"] == 2


@pytest.mark.parametrize(
    ("content", "status", "code", "message"),
    [
        ({"model": {"name": "cats"}, **TWO}, 404, "not_found", NO_CATS),
        ({}, 400, "invalid_argument", "latents: is missing; give vectors, seeds or a seed_range"),
        (
            {"latents": {"seedRange": {"count": 13}}},
            *(400, "invalid_argument"),
            "latents: asks for 13 images; one call gives at most 12, use StreamGenerate",
        ),
        (
            {**TWO, "labelNames": ["x"]},
            *(400, "failed_precondition"),
            "label names were given, and this model has no labels",
        ),
    ],
)
def test_an_error_is_a_status_and_connects_code(web: Web, content: Any, status: int, code: str, message: str) -> None:
    for answer in (
        web.post(f"{SERVICE}/Generate", content),
        web.post(f"{SERVICE}/Generate", binary(content), "application/proto"),
    ):
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert (answer.json["code"], answer.json["message"]) == (code, message)
        first = answer.json["details"][0]
        assert first["type"] == "google.rpc.ErrorInfo"
        info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(first["value"] + "=="))
        assert info.domain == "progan"


@pytest.mark.parametrize(
    "sent",
    [
        b"{",
        b"[]",
        b"7",
        b"\xff",
        b'{"latent": {}}',
        b'{"latents": {"seedRange": {"count": -1}}}',
        b'{"latents": {"seeds": {"seeds": [18446744073709551616]}}}',
        b'{"latents": {"seeds": {"seeds": [' + b"1" * 5000 + b"]}}}",
        b"[" * 100_000,
        b'{"latents":' * 2000,
        b'{"model": {"name": "\\ud800"}}',
        b'{"latents": {}, "latents": {}}',
    ],
)
def test_what_is_no_message_is_refused(web: Web, sent: bytes) -> None:
    answer = web.post(f"{SERVICE}/Generate", sent)
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert answer.json["message"].startswith("request: is no JSON of this rpc's message: ")


def test_a_misspelt_field_is_named(web: Web) -> None:
    answer = web.post(f"{SERVICE}/Generate", {"latent": {}})
    assert 'has no field named "latent"' in answer.json["message"]


def test_a_body_is_bounded_before_and_after_it_is_decompressed(web: Web) -> None:
    most = 4096 * 2  # of a request that is a name
    for answer in (
        web.post(f"{SERVICE}/GetModel", b" " * (most + 1)),
        web.post(f"{SERVICE}/GetModel", gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
    ):
        assert (answer.status, answer.json["code"]) == (413, "invalid_argument")
        assert answer.json["message"] == f"request: has more than {most} bytes, which is the most that is read here"


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("br", "Content-Encoding: is 'br'; gzip, deflate and identity can be read"),
        ("gzip", "request: has a body that cannot be decoded"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_refused(web: Web, coding: str, message: str) -> None:
    answer = web.post(f"{SERVICE}/Generate", b"{}", Content_Encoding=coding)
    assert (answer.status, answer.json["message"]) == (400, message)
    answer = web.post(f"{SERVICE}/Generate", gzip.compress(b"{}")[:-4], Content_Encoding="gzip")
    assert answer.json["message"] == "request: has a compressed body that is cut off"


# --- streams ---


@pytest.mark.parametrize("kind", ["connect+json", "connect+proto", "grpc-web", "grpc-web+proto", "grpc-web-text"])
def test_a_stream_comes_in_frames_and_says_how_it_ended(server: Server, tiny: Web, kind: str) -> None:
    sent = json.dumps(WALK).encode() if kind.endswith("json") else binary(WALK, pb.InterpolateRequest)
    request = base64.b64encode(framed(sent)) if kind.endswith("text") else framed(sent)
    answer = tiny.post(f"{SERVICE}/Interpolate", request, f"application/{kind}")
    assert answer.status == 200
    body = unwrapped(answer.body) if kind.endswith("text") else answer.body
    *parts, (flags, end) = frames(body)
    assert {flag for flag, _ in parts} == {0}
    assert (flags, end) == ((2, b"{}") if "connect" in kind else (0x80, b"grpc-status: 0\r\n"))
    parse = json_format.Parse if kind.endswith("json") else lambda data, made: type(made).FromString(data)
    messages = [parse(part, pb.InterpolateResponse()) for _, part in parts]
    assert b"".join(message.images.pixels for message in messages) == walk_of_grpc(server)


def unwrapped(text: bytes) -> bytes:
    """What a body of several base64 texts, each with its padding, stands for."""
    return b"".join(base64.b64decode(text[place : place + 4]) for place in range(0, len(text), 4))


def walk_of_grpc(server: Server) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = json_format.ParseDict(WALK, pb.InterpolateRequest())
        parts = pb_grpc.ImageGeneratorServiceStub(channel).Interpolate(request, timeout=60)
        return b"".join(part.images.pixels for part in parts)


def test_an_error_in_mid_stream_comes_after_what_was_made(web: Web) -> None:
    good, bad = struct.pack("<4f", 0, 1, 0, 0), struct.pack("<4f", 0, 99, 0, 0)  # the second makes the graph fail
    values = good * 64 + bad
    request = pb.StreamGenerateRequest(latents=pb.Latents(vectors=pb.FloatMatrix(rows=65, columns=4, values=values)))
    sent = framed(request.SerializeToString())
    *parts, (flags, end) = frames(web.post(f"{SERVICE}/StreamGenerate", sent, "application/connect+proto").body)
    assert parts
    assert (flags, json.loads(end)["error"]["code"]) == (2, "internal")
    *parts, (flags, end) = frames(web.post(f"{SERVICE}/StreamGenerate", sent, "application/grpc-web").body)
    assert parts
    assert flags == 0x80
    assert end.startswith(b"grpc-status: 13\r\ngrpc-message: internal error; the server's log has it under id ")


def refused(answer: Answer) -> dict[str, str]:
    """The trailers of a refusal by gRPC-Web."""
    [(flags, end)] = frames(answer.body)
    assert (answer.status, flags) == (200, 0x80)
    return dict(line.split(": ", 1) for line in end.decode().split("\r\n") if line)


def test_grpc_web_carries_unary_calls_and_their_errors(web: Web) -> None:
    answer = web.post(f"{SERVICE}/Generate", framed(binary(TWO)), "application/grpc-web+proto")
    (_, content), (flags, end) = frames(answer.body)
    assert (pb.GenerateResponse.FromString(content).images.count, flags, end) == (2, 0x80, b"grpc-status: 0\r\n")
    cats = binary({"model": {"name": "cats"}})
    trailers = refused(web.post(f"{SERVICE}/Generate", framed(cats), "application/grpc-web+proto"))
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("5", NO_CATS)
    details = status_pb2.Status.FromString(base64.b64decode(trailers["grpc-status-details-bin"] + "=="))
    assert (details.code, details.message) == (5, NO_CATS)


def test_a_message_of_grpc_web_is_one_line_of_ascii(web: Web) -> None:
    request = binary({"model": {"name": "gr\u00fcn\r\ngrpc-status: 0"}})
    trailers = refused(web.post(f"{SERVICE}/Generate", framed(request), "application/grpc-web+proto"))
    assert trailers["grpc-status"] == "5"
    assert trailers["grpc-message"].startswith("no model 'gr%C3%BCn%5Cr%5Cngrpc-status: 0'")


def test_an_unknown_method_is_refused_in_the_words_of_each_protocol(web: Web) -> None:
    path, words = f"{SERVICE}/Draw", "this server has no such method"
    answer = web.post(path, {})
    assert (answer.status, answer.json["code"], answer.json["message"]) == (501, "unimplemented", words)
    [(flags, end)] = frames(web.post(path, framed(b""), "application/connect+proto").body)
    assert (flags, json.loads(end)["error"]["code"]) == (2, "unimplemented")
    trailers = refused(web.post(path, framed(b""), "application/grpc-web"))
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("12", words)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "invalid_argument"),
        (b"\0\0\0\0", "invalid_argument"),
        (b"\0\0\0\0\5ab", "invalid_argument"),
        (framed(b"") + framed(b""), "invalid_argument"),
        (b"\2\0\0\0\0", "invalid_argument"),
        (b"\1\0\0\0\0", "unimplemented"),  # compressed
        (framed(b"\xff"), "invalid_argument"),
    ],
)
def test_frames_that_hold_no_message_are_refused(web: Web, sent: bytes, code: str) -> None:
    [(flags, end)] = frames(web.post(f"{SERVICE}/Interpolate", sent, "application/connect+proto").body)
    assert (flags, json.loads(end)["error"]["code"]) == (2, code)


def test_text_that_is_no_base64_is_refused(web: Web) -> None:
    answer = web.post(f"{SERVICE}/Interpolate", b"!", "application/grpc-web-text")
    assert b"grpc-message: request: is not base64\r\n" in unwrapped(answer.body)


def test_a_content_type_that_is_not_spoken_is_named_with_those_that_are(web: Web) -> None:
    answer = web.post(f"{SERVICE}/Interpolate", {})
    assert answer.status == 415
    assert answer.json["error"] == (
        "Content-Type is 'application/json'; must be one of application/connect+json, application/connect+proto, "
        "application/grpc-web, application/grpc-web+proto, application/grpc-web-text, application/grpc-web-text+proto"
    )
    assert "application/json" in web.post(f"{SERVICE}/Generate", {}, "text/plain").headers["accept-post"]
    answer = web.get(f"{SERVICE}/Generate")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
