"""Images that have addresses."""

import io
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from web import Web

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.server import Server

LAST = 2**64 - 1


def pixels(file: bytes) -> Any:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("seed", [0, 7, LAST])
def test_an_address_is_the_image_of_grpc(server: Server, tiny: Web, seed: int) -> None:
    answer = tiny.get(f"/v1/images/tiny/{seed}.png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = pb.GenerateRequest(
            latents=pb.Latents(seeds=pb.SeedList(seeds=[seed])), format=pb.OutputFormat(encoding="IMAGE_ENCODING_PNG")
        )
        [file] = pb_grpc.ImageGeneratorServiceStub(channel).Generate(request, timeout=60).images.files
    assert answer.body == file


@pytest.mark.parametrize(
    ("ending", "kind", "format_"),
    [("jpg", "image/jpeg", "JPEG"), ("JPEG", "image/jpeg", "JPEG"), ("webp", "image/webp", "WEBP")],
)
def test_the_ending_says_the_format(tiny: Web, ending: str, kind: str, format_: str) -> None:
    answer = tiny.get(f"/v1/images/tiny/7.{ending}?quality=80")
    assert answer.headers["content-type"] == kind
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.format, image.size) == (format_, (8, 8))


def test_quality_counts(web: Web) -> None:
    sizes = [len(web.get(f"/v1/images/wide/1.jpg?quality={quality}").body) for quality in (1, 100)]
    assert sizes[0] < sizes[1]


def test_a_label_is_given_by_name(web: Web) -> None:
    for number, shade in (("0", 0), ("1", 100)):
        answer = web.get(f"/v1/images/labelled/1.png?label=label%20{number}")
        assert pixels(answer.body)[0, 0].tolist() == [shade] * 3


def test_a_version_is_given_by_number(web: Web) -> None:
    assert web.get("/v1/images/puppet/1.png?version=2").status == 200
    answer = web.get("/v1/images/puppet/1.png?version=1")
    assert answer.status == 400
    assert answer.json["error"].startswith("version 1 of model 'puppet' is not loaded")


def test_whoever_has_the_image_is_told_so(web: Web) -> None:
    first = web.get("/v1/images/puppet/7.png")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert tag.endswith('-7"')
    assert first.headers["cache-control"] == "no-cache"
    for known in (tag, f'"x", {tag}', tag.removeprefix("W/"), "*"):
        again = web.get("/v1/images/puppet/7.png", If_None_Match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert web.get("/v1/images/puppet/8.png", If_None_Match=tag).status == 200


def test_head_is_get_without_the_image(web: Web) -> None:
    answer = web.ask("HEAD", "/v1/images/puppet/7.png")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        ("puppet/x.png", 400, "seed: is 'x'; must be a number from 0 to 18446744073709551615"),
        (f"puppet/{LAST + 1}.png", 400, f"seed: is '{LAST + 1}'; must be a number from 0 to 18446744073709551615"),
        ("puppet/%C2%B2.png", 400, "seed: is '²'; must be a number from 0 to 18446744073709551615"),
        ("puppet/7.gif", 400, "ending: is 'gif'; must be png, jpg, jpeg, webp"),
        ("puppet/7.png?quality=3", 400, "quality: is 3, but PNG loses nothing; leave it out"),
        ("puppet/7.jpg?quality=300", 400, "quality: is 300; must lie between 1 and 100"),
        ("puppet/7.jpg?quality=best", 400, "quality: is 'best'; must lie between 1 and 100"),
        ("puppet/7.png?size=9", 400, "parameters: 'size' is none; there are version, label, quality"),
        ("cats/7.png", 404, "no model 'cats'; this server has: labelled, puppet, wide"),
        ("puppet/7.png?version=stable", 404, "model 'puppet' has no version label 'stable'; it has: none"),
        ("puppet/7.png?version=" + "9" * 30, 400, f"version: is {'9' * 30}; no version has so high a number"),
        ("labelled/7.png", 400, "label: is missing; the model needs rows of 2 floats: label 0, label 1"),
        ("labelled/7.png?label=pear", 400, "label: 'pear' must be one of label 0, label 1"),
        ("puppet/7.png?label=pear", 400, "label names were given, and this model has no labels"),
    ],
)
def test_what_breaks_a_rule_is_named(web: Web, address: str, status: int, sentence: str) -> None:
    answer = web.get(f"/v1/images/{address}")
    assert (answer.status, answer.headers["content-type"], answer.json) == (
        status,
        "application/json",
        {"error": sentence},
    )
