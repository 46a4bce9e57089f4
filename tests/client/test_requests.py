"""Arguments become requests."""

import math
from typing import Any

import numpy as np
import pytest

from progan_client import ArgumentError, AsyncClient, Client
from progan_client.arguments import GenerateArguments, ImageArguments, InterpolateArguments
from progan_client.requests import generate_request as generate
from progan_client.requests import interpolate_request as interpolate
from progan_client.requests import stream_generate_request
from progan_protos.v1 import image_generator_pb2 as pb


def test_seeds_go_as_a_list() -> None:
    assert generate(seeds=[7, 2**64 - 1]).latents == pb.Latents(seeds=pb.SeedList(seeds=[7, 2**64 - 1]))


def test_numpy_integers_are_seeds() -> None:
    assert list(generate(seeds=np.arange(3)).latents.seeds.seeds) == [0, 1, 2]


def test_count_and_seed_go_as_a_range() -> None:
    assert generate(count=4, seed=1337).latents == pb.Latents(seed_range=pb.SeedRange(first_seed=1337, count=4))


def test_a_seed_alone_is_one_image() -> None:
    assert generate(seed=5).latents == pb.Latents(seed_range=pb.SeedRange(first_seed=5, count=1))


def test_a_count_alone_draws_a_seed_that_is_exact_in_json() -> None:
    drawn = {generate(count=2).latents.seed_range.first_seed for _ in range(20)}
    assert len(drawn) == 20
    assert max(drawn) < 2**53


def test_latents_go_as_little_endian_float32() -> None:
    request = generate(latents=[[1.0, -2.0, 0.5]])
    assert request.latents.vectors == pb.FloatMatrix(
        rows=1, columns=3, values=b"\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f"
    )


def test_model_labels_and_format_go_along() -> None:
    request = generate(seeds=[1, 2], labels=[0.0, 1.0], model="fruits", version=3, encoding="jpeg", quality=80)
    assert request.model == pb.ModelSelector(name="fruits", version=3)
    assert (request.labels.rows, request.labels.columns) == (1, 2)
    assert request.format == pb.OutputFormat(encoding=pb.IMAGE_ENCODING_JPEG, quality=80)


def test_labels_may_be_names() -> None:
    for arguments in ({"label": "dog"}, {"labels": ["dog"]}):
        request = generate(seeds=[1, 2], **arguments)
        assert (request.label_names, request.HasField("labels")) == (["dog"], False)
        assert stream_generate_request(request).label_names == ["dog"]
    assert interpolate(seeds=[1, 2], labels=("smile", "glasses")).label_names == ["smile", "glasses"]


@pytest.mark.parametrize("label", ["canary", "a", "blue-2_x", "a" * 63])
def test_a_version_may_be_a_label(label: str) -> None:
    assert generate(seeds=[1], version=label).model == pb.ModelSelector(version_label=label)
    assert interpolate(seeds=[1, 2], version=label).model == pb.ModelSelector(version_label=label)


@pytest.mark.parametrize("label", ["", "Canary", "2", "-a", "a b", "ä", "a\n", "a" * 64])
def test_a_label_begins_with_a_small_letter(label: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        generate(seeds=[1], version=label)
    assert str(caught.value) == (
        "version: must be a number or a label: a small letter, then small letters, digits, - or _, at most 63 in all; "
        f"got {label!r}"
    )


def test_without_a_version_none_is_named() -> None:
    assert generate(seeds=[1], version=None).model == pb.ModelSelector()


def test_stream_generate_asks_the_same_question() -> None:
    request = generate(seeds=[1], labels=[[1.0]], model="fruits", encoding="png")
    streamed = stream_generate_request(request)
    assert streamed.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert not stream_generate_request(generate(seeds=[1])).HasField("labels")


def test_bulk_is_a_low_priority() -> None:
    assert generate(seeds=[1]).priority == pb.PRIORITY_INTERACTIVE
    assert generate(seeds=[1], bulk=True).priority == pb.PRIORITY_BULK
    assert interpolate(seeds=[1, 2], bulk=True).priority == pb.PRIORITY_BULK


def test_interpolate_request() -> None:
    request = interpolate(seeds=[1, 2, 3], frames_between=9, path="linear", loop=True)
    assert list(request.key_frames.seeds.seeds) == [1, 2, 3]
    assert (request.frames_between, request.path, request.loop) == (9, pb.INTERPOLATION_PATH_LINEAR, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "latents, seeds, count: give exactly one; got []"),
        ({"seeds": [1], "count": 2}, "latents, seeds, count: give exactly one; got ['seeds', 'count']"),
        ({"seeds": [1], "seed": 2}, "latents, seeds, count: give exactly one; got ['seeds', 'count']"),
        ({"seeds": []}, "seeds: must be at least one; got []"),
        ({"seeds": 5}, "seeds: must be a sequence of integers; got 5"),
        ({"seeds": [1, -1]}, "seeds[1]: must be 0 to 18446744073709551615; got -1"),
        ({"seeds": [2**64]}, "seeds[0]: must be 0 to 18446744073709551615; got 18446744073709551616"),
        ({"seeds": [1.5]}, "seeds[0]: must be an integer; got 1.5"),
        ({"count": 0}, "count: must be 1 to 4294967295; got 0"),
        ({"count": 1, "seed": -3}, "seed: must be 0 to 18446744073709551615; got -3"),
        ({"latents": [1.0, 2.0]}, "latents: must have the shape [N, L], both above 0; got (2,)"),
        ({"latents": np.zeros((0, 4))}, "latents: must have the shape [N, L], both above 0; got (0, 4)"),
        ({"latents": [[1.0, 2.0], [math.nan, 1.0]]}, "latents[1, 0]: must be finite as float32; got nan"),
        ({"latents": [[1e300]]}, "latents[0, 0]: must be finite as float32; got inf"),
        ({"latents": [[1.0], [0.0]]}, "latents[1]: must have a length above zero; got 0.0"),
        ({"latents": [["a"]]}, "latents: must be real numbers; got 'str32'"),
        ({"latents": [[1.0, 2.0], [3.0]]}, "latents: must have rows of one length; got [[1.0, 2.0], [3.0]]"),
        ({"seed": 1, "model": 5}, "model: must be the name of a model; got 5"),
        ({"latents": [[1j]]}, "latents: must be real numbers; got 'complex128'"),
        (
            {"seeds": [1, 2, 3], "labels": np.ones((2, 4))},
            "labels: must have the shape [K], [1, K] or [3, K]; got (2, 4)",
        ),
        ({"seeds": [1], "labels": [math.inf]}, "labels[0]: must be finite as float32; got inf"),
        ({"seeds": [1], "label": "cat", "labels": [0, 1]}, "label, labels: give at most one; got ['label', 'labels']"),
        (
            {"seeds": [1], "label": ["cat"]},
            "label: must be the name of a label; give several, or a vector, as labels; got ['cat']",
        ),
        (
            {"seeds": [1], "labels": "cat"},
            "labels: must be numbers or a list of names; give one name as label; got 'cat'",
        ),
        ({"seeds": [1], "labels": ["cat", 1]}, "labels[1]: must be a name, as the others are; got 1"),
        ({"seeds": [1], "version": 0}, "version: must be 1 to 18446744073709551615; got 0"),
        ({"seeds": [1], "version": 2**64}, "version: must be 1 to 18446744073709551615; got 18446744073709551616"),
        ({"seeds": [1], "version": 1.0}, "version: must be an integer; got 1.0"),
        ({"seeds": [1], "encoding": "bmp"}, "encoding: must be one of raw, png, jpeg, webp; got 'bmp'"),
        ({"seeds": [1], "encoding": "png", "quality": 90}, "quality: must be 0 with png, which is lossless; got 90"),
        ({"seeds": [1], "encoding": "webp", "quality": 101}, "quality: must be 0 to 100; got 101"),
        ({"seeds": [1], "encoding": "webp", "quality": "90"}, "quality: must be an integer; got '90'"),
        ({"seeds": [True]}, "seeds[0]: must be an integer; got True"),
        ({"count": True}, "count: must be an integer; got True"),
        ({"seeds": [1], "version": True}, "version: must be an integer; got True"),
        ({"seeds": [1], "edits": {"size": True}}, "edits: size must be a number from -4 to 4; got True"),
        ({"seeds": [1], "bulk": "no"}, "bulk: must be True or False; got 'no'"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_the_rule(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        generate(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "latents, seeds: give exactly one; got []"),
        ({"seeds": [1, 2], "latents": [[1.0], [2.0]]}, "latents, seeds: give exactly one; got ['latents', 'seeds']"),
        ({"seeds": [1]}, "seeds: must be two or more; got 1"),
        ({"latents": [[1.0]]}, "latents: must be two or more; got 1"),
        ({"seeds": [1, 2], "frames_between": -1}, "frames_between: must be 0 to 4294967295; got -1"),
        ({"seeds": [1, 2], "frames_between": "30"}, "frames_between: must be an integer; got '30'"),
        ({"seeds": [1, 2], "loop": "yes"}, "loop: must be True or False; got 'yes'"),
        ({"seeds": [1, 2], "path": "round"}, "path: must be one of spherical, linear, smooth; got 'round'"),
    ],
)
def test_a_wrong_walk_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        interpolate(**arguments)
    assert str(caught.value) == message


def test_the_name_of_a_model_is_a_text() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ArgumentError) as caught:
        client.model(5)  # type: ignore[arg-type]
    assert str(caught.value) == "name: must be the name of a model; got 5"


def test_the_arguments_are_these() -> None:
    with pytest.raises(TypeError) as caught:
        generate(timeout=3)  # type: ignore[call-arg]
    assert str(caught.value) == (
        "unexpected argument 'timeout'; must be one of bulk, count, edits, encoding, hold, label, labels, latents, "
        "model, quality, seed, seeds, sets, timeout_s, version"
    )


@pytest.mark.parametrize("method", ["generate", "stream", "interpolate"])
def test_a_misspelt_argument_is_named_before_anything_is_sent(method: str) -> None:
    client = Client("127.0.0.1:1")  # a call would raise UnavailableError
    with client, pytest.raises(TypeError, match="unexpected argument 'sed'; must be one of bulk, "):
        getattr(client, method)(sed=1)


async def test_the_asynchronous_client_names_it_too() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="unexpected argument 'sed'; must be one of bulk, "):
            await client.generate(sed=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected argument 'sed'; must be one of bulk, "):
            client.stream(sed=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(GenerateArguments.__optional_keys__))
def test_generate_explains_every_argument(name: str) -> None:
    assert f"\n        `{name}` " in (Client.generate.__doc__ or "")


@pytest.mark.parametrize("name", sorted(InterpolateArguments.__optional_keys__ - ImageArguments.__optional_keys__))
def test_interpolate_explains_every_argument_of_its_own(name: str) -> None:
    assert f"\n        `{name}` " in (Client.interpolate.__doc__ or "")
