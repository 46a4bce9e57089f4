"""Images of latents and seeds, in pixels and files, from models and versions that are named."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from progan_v1 import PATIENCE_S, PNG, Guest, configured, floats, greys, guest, matrix, pixels, seed_range, seeds, texts

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.latents.seeds import latents_from_seeds


def test_generate_answers_vectors_with_their_pictures_in_order(puppets: Guest) -> None:
    reply = puppets.generate((5, 0, 0, 0), (-5, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0))
    assert greys(reply.images) == [150, 50, 110, 120, 130]
    assert (reply.images.height, reply.images.width, reply.images.channels) == (4, 4, 3)
    assert reply.images.encoding == pb.IMAGE_ENCODING_RAW


def test_generate_tells_the_latents_of_seeds_and_they_give_the_same_images(
    tiny: pb_grpc.ImageGeneratorServiceStub,
) -> None:
    by_seed = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337)), timeout=PATIENCE_S)
    np.testing.assert_array_equal(floats(by_seed.latents), latents_from_seeds(np.array([7, 1337], np.uint64), 16))
    by_vector = tiny.Generate(pb.GenerateRequest(latents=pb.Latents(vectors=by_seed.latents)), timeout=PATIENCE_S)
    assert by_vector.images == by_seed.images


def test_the_same_seeds_give_the_same_bytes_at_every_call(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    request = pb.GenerateRequest(latents=seed_range(1337, 16))
    first, *others = (tiny.Generate(request, timeout=PATIENCE_S).images.SerializeToString() for _ in range(5))
    assert others == [first] * 4


def test_different_seeds_give_different_images(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    images = pixels(tiny.Generate(pb.GenerateRequest(latents=seed_range(0, 4)), timeout=PATIENCE_S).images)
    assert len({image.tobytes() for image in images}) == 4


def test_a_png_holds_the_same_pixels_as_raw(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    raw = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337)), timeout=PATIENCE_S).images
    png = tiny.Generate(pb.GenerateRequest(latents=seeds(7, 1337), format=PNG), timeout=PATIENCE_S).images
    assert (png.encoding, png.count, png.pixels) == (pb.IMAGE_ENCODING_PNG, 2, b"")
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in png.files])
    np.testing.assert_array_equal(decoded, pixels(raw))


def test_a_png_tells_the_model_and_seed_it_was_made_of(puppets: Guest) -> None:
    request = pb.GenerateRequest(latents=seed_range(1337, 2), format=PNG)
    reply = puppets.stub.Generate(request, timeout=PATIENCE_S)
    common = {
        "Software": "progan",
        "Model": "puppet version 2",
        "Digest": reply.model.digest,
        "Source": "tests, 1.2 kimg",
    }
    assert texts(reply.images.files) == [common | {"Seed": "1337"}, common | {"Seed": "1338"}]
    assert puppets.stub.Generate(request, timeout=PATIENCE_S).images == reply.images


def test_a_png_of_a_vector_or_of_a_walk_tells_no_seed(puppets: Guest) -> None:
    files = list(puppets.generate((0, 0, 0, 1), format=PNG).images.files)
    walk_request = pb.InterpolateRequest(key_frames=seeds(1, 2), frames_between=1, format=PNG)
    for part in puppets.stub.Interpolate(walk_request, timeout=PATIENCE_S):
        files += part.images.files
    assert [set(found) for found in texts(files)] == [{"Software", "Model", "Digest", "Source"}] * 4


def test_the_parts_of_a_stream_tell_their_own_seeds(puppets: Guest) -> None:
    request = pb.StreamGenerateRequest(latents=seed_range(2**64 - 3, 6), format=PNG)
    replies = list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S))
    assert len(replies) > 1
    seeds = [found["Seed"] for reply in replies for found in texts(reply.images.files)]
    assert seeds == ["18446744073709551613", "18446744073709551614", "18446744073709551615", "0", "1", "2"]


PROVENANCE_AND_TEXTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "international": (
        {"source": "tfhub", "origin": "https://hub.example/progan/1", "license": "許諾\r\n© CC BY 4.0"},
        {"Source": "tfhub https://hub.example/progan/1", "License": "許諾\n© CC BY 4.0"},
    ),
    "long": ({"source": "a friend", "license": "MIT\n" * 8_000}, {"Source": "a friend", "License": "MIT\n" * 8_000}),
    "odd": ({"source": 7, "origin": {"of": "somewhere"}, "license": ["MIT", None]}, {}),
    "torn": ({"source": None, "origin": "attic\ud83c", "license": ""}, {"Source": "attic?"}),
    "silent": ({}, {}),
}


def test_a_png_tells_what_the_provenance_of_its_model_says_in_text(
    tmp_path: Path, publish_puppet: Callable[..., int]
) -> None:
    for name, (provenance, _) in PROVENANCE_AND_TEXTS.items():
        publish_puppet(tmp_path, name, provenance=provenance)
    with guest(configured(tmp_path)) as host:
        for name, (_, expected) in PROVENANCE_AND_TEXTS.items():
            reply = host.generate((0, 0, 0, 1), model=pb.ModelSelector(name=name), format=PNG)
            (found,) = texts(reply.images.files)
            assert found == {
                "Software": "progan",
                "Model": f"{name} version 1",
                "Digest": reply.model.digest,
                **expected,
            }


@pytest.mark.parametrize("encoding", ["JPEG", "WEBP"])
def test_lossy_files_are_of_the_kind_that_was_asked_for(puppets: Guest, encoding: str) -> None:
    wanted = pb.OutputFormat(encoding=pb.ImageEncoding.Value(f"IMAGE_ENCODING_{encoding}"), quality=50)
    (file,) = puppets.generate((0, 0, 0, 1), format=wanted).images.files
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.size) == (encoding, (4, 4))


def test_a_reply_names_the_model_version_that_made_it(puppets: Guest) -> None:
    served = puppets.generate((0, 0, 0, 1)).model
    assert (served.name, served.version) == ("puppet", 2)
    assert re.fullmatch("sha256:[0-9a-f]{64}", served.digest)


def test_a_reply_tells_where_the_time_went(puppets: Guest) -> None:
    times = puppets.generate((0, 0, 0, 1), format=PNG).times
    assert times.inference.ToMicroseconds() > 0
    assert times.encode.ToMicroseconds() > 0
    assert 0 <= times.queue.ToMicroseconds() < PATIENCE_S * 1e6


def test_a_model_and_version_may_be_named(puppets: Guest) -> None:
    reply = puppets.generate((5, 0, 0, 0), model=pb.ModelSelector(name="puppet", version=2))
    assert greys(reply.images) == [150]


def test_labels_choose_the_picture_of_a_model_that_has_them(puppets: Guest) -> None:
    labels = matrix((1, 0), (0, 1))
    reply = puppets.generate((1, 1, 1, 1), (1, 1, 1, 1), model=pb.ModelSelector(name="labelled"), labels=labels)
    assert greys(reply.images) == [0, 100]


def test_many_calls_at_once_each_get_their_own_pictures(puppets: Guest) -> None:
    calls = {shade: puppets.begin_generate((shade, 0, 0, 1)) for shade in range(-8, 8)}
    assert {shade: greys(call.result().images) for shade, call in calls.items()} == {
        shade: [100 + 10 * shade] for shade in range(-8, 8)
    }
