"""Arguments become requests, replies become arrays."""

import math
from typing import Any

import numpy as np
import pytest

from progan_client import ArgumentError, ReplyError, ServedModel, StageTimes, codec
from progan_protos.v1 import image_generator_pb2 as pb

GENERATE: dict[str, Any] = {
    "latents": None,
    "seeds": None,
    "count": None,
    "seed": None,
    "labels": None,
    "model": "",
    "version": None,
    "encoding": "raw",
    "quality": 0,
    "bulk": False,
}
INTERPOLATE: dict[str, Any] = {
    "latents": None,
    "seeds": None,
    "frames_between": 30,
    "path": "spherical",
    "loop": False,
    "labels": None,
    "model": "",
    "version": None,
    "encoding": "raw",
    "quality": 0,
    "bulk": False,
}


def generate(**arguments: Any) -> pb.GenerateRequest:
    return codec.generate_request(**GENERATE | arguments)


def interpolate(**arguments: Any) -> pb.InterpolateRequest:
    return codec.interpolate_request(**INTERPOLATE | arguments)


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
    streamed = codec.stream_generate_request(request)
    assert streamed.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert not codec.stream_generate_request(generate(seeds=[1])).HasField("labels")


def test_what_nobody_waits_for_says_so() -> None:
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
        ({"latents": [[1j]]}, "latents: must be real numbers; got 'complex128'"),
        (
            {"seeds": [1, 2, 3], "labels": np.ones((2, 4))},
            "labels: must have the shape [K], [1, K] or [3, K]; got (2, 4)",
        ),
        ({"seeds": [1], "labels": [math.inf]}, "labels[0]: must be finite as float32; got inf"),
        ({"seeds": [1], "version": 0}, "version: must be 1 to 18446744073709551615; got 0"),
        ({"seeds": [1], "version": 2**64}, "version: must be 1 to 18446744073709551615; got 18446744073709551616"),
        ({"seeds": [1], "version": 1.0}, "version: must be an integer; got 1.0"),
        ({"seeds": [1], "encoding": "bmp"}, "encoding: must be one of raw, png, jpeg, webp; got 'bmp'"),
        ({"seeds": [1], "encoding": "png", "quality": 90}, "quality: must be 0 with png, which loses nothing; got 90"),
        ({"seeds": [1], "encoding": "webp", "quality": 101}, "quality: must be 0 to 100; got 101"),
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
        ({"seeds": [1, 2], "path": "round"}, "path: must be one of spherical, linear; got 'round'"),
    ],
)
def test_a_wrong_walk_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        interpolate(**arguments)
    assert str(caught.value) == message


def reply(**changes: Any) -> pb.GenerateResponse:
    """Two grey images of one row and two pixels, of latents of length one."""
    message = pb.GenerateResponse(
        images=pb.Images(
            encoding=pb.IMAGE_ENCODING_RAW, count=2, height=1, width=2, channels=1, pixels=b"\x00\x01\x02\xff"
        ),
        latents=pb.FloatMatrix(rows=2, columns=1, values=b"\x00\x00\x80\x3f\x00\x00\x00\xc0"),
        model=pb.ServedModel(name="tiny", version=1, digest="sha256:00"),
    )
    message.times.queue.FromMilliseconds(2)
    message.times.inference.FromMilliseconds(30)
    message.MergeFrom(pb.GenerateResponse(**changes))
    return message


def test_a_raw_reply_becomes_arrays() -> None:
    images = codec.images_of_reply(reply(), generate(count=2, seed=2**64 - 1))
    assert images.pixels.tolist() == [[[[0], [1]]], [[[2], [255]]]]
    assert images.pixels.dtype == np.uint8
    assert images.latents.tolist() == [[1.0], [-2.0]]
    assert images.latents.dtype == np.float32
    assert images.seeds == (2**64 - 1, 0)
    assert images.model == ServedModel("tiny", 1, "sha256:00")
    assert images.times == StageTimes(queue_s=0.002, inference_s=0.03, encode_s=0.0)
    assert images.encoding == "raw"
    assert images.files == ()


def test_pixels_may_be_drawn_on() -> None:
    assert codec.images_of_reply(reply(), generate(count=2)).pixels.flags.writeable


def test_latents_have_no_seeds() -> None:
    assert codec.images_of_reply(reply(), generate(latents=[[1.0], [-2.0]])).seeds is None


def test_a_part_of_a_stream_knows_its_own_seeds() -> None:
    request = codec.stream_generate_request(generate(seeds=[10, 20, 30, 40]))
    whole = reply()
    part = pb.StreamGenerateResponse(first_index=1, images=whole.images, latents=whole.latents, model=whole.model)
    assert codec.images_of_part(part, request).seeds == (20, 30)


def test_frames_are_numbered_along_the_walk() -> None:
    whole = reply()
    part = pb.InterpolateResponse(first_index=6, images=whole.images, latents=whole.latents, model=whole.model)
    frames = list(codec.frames_of_part(part))
    assert [frame.index for frame in frames] == [6, 7]
    assert frames[1].pixels.tolist() == [[[2], [255]]]
    assert frames[1].latent.tolist() == [-2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": pb.Images(pixels=b"\x00")},
            "the service announced images of shape (2, 1, 2, 1) and sent 1 bytes",
        ),
        ({"images": pb.Images(encoding=pb.IMAGE_ENCODING_PNG)}, "the service announced 2 images and sent 0"),
        (
            {"images": pb.Images(encoding=9)},  # type: ignore[arg-type]
            "the service sent images in an encoding that this client does not know (9)",
        ),
        ({"latents": pb.FloatMatrix(rows=3)}, "the service sent latents of shape (3, 1) for 2 images"),
        ({"latents": pb.FloatMatrix(values=b"\x00")}, "the service sent latents of shape (2, 1) for 2 images"),
    ],
)
def test_a_reply_that_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ReplyError) as caught:
        codec.images_of_reply(reply(**changes), generate(count=2))
    assert str(caught.value) == message


def test_a_model_message_becomes_a_model() -> None:
    message = pb.Model(
        name="fruits",
        is_default=True,
        serving_version=2,
        pinned_version=1,
        version_labels={"canary": 2},
        error="rollout.json: not readable",
    )
    message.versions.add(
        version=2, state=pb.MODEL_STATE_READY, latent_size=128, resolution=64, channels=3, label_names=["a", "b"]
    )
    message.versions.add(version=1, state=pb.MODEL_STATE_DRAINING)
    model = codec.model_of_message(message)
    assert (model.name, model.is_default, model.error) == ("fruits", True, "rollout.json: not readable")
    assert (model.serving_version, model.pinned_version, model.version_labels) == (2, 1, {"canary": 2})
    assert [(version.version, version.state) for version in model.versions] == [(2, "ready"), (1, "draining")]
    assert model.versions[0].label_names == ("a", "b")


def test_a_model_may_have_no_version_that_serves_or_is_pinned() -> None:
    model = codec.model_of_message(pb.Model(name="fruits"))
    assert (model.serving_version, model.pinned_version, model.version_labels) == (None, None, {})
    with pytest.raises(ArgumentError, match="version: must be given, as no version of model fruits serves"):
        model.version()


def test_a_provenance_has_the_values_that_were_written() -> None:
    written = {
        "source": "tests",
        "images_shown": 280096,
        "alpha": 0.5,
        "training": {"batch_sizes": {"4": 32}, "mirror": True, "steps": [1, 2.5, None, "8"]},
    }
    message = pb.ModelVersion()
    message.provenance.update(written)
    version = codec.model_of_message(pb.Model(versions=[message])).versions[0]
    assert version.provenance == written
    assert repr(version.provenance["images_shown"]) == "280096"
    assert repr(version.provenance["training"]["batch_sizes"]) == "{'4': 32}"
    assert repr(version.provenance["training"]["steps"]) == "[1, 2.5, None, '8']"


def test_numbers_that_json_cannot_hold_are_told_as_well() -> None:
    message = pb.ModelVersion()
    message.provenance.update({"loss": math.inf, "largest": 1e300})
    provenance = codec.model_of_message(pb.Model(versions=[message])).versions[0].provenance
    assert provenance == {"loss": math.inf, "largest": int(1e300)}


def test_what_is_no_text_in_a_provenance_is_no_source() -> None:
    message = pb.ModelVersion()
    message.provenance.update({"source": 7, "origin": ["a", "b"], "license": None})
    version = codec.model_of_message(pb.Model(versions=[message])).versions[0]
    assert (version.source, version.origin, version.license) == ("", "", "")


def test_a_state_newer_than_this_client_is_unspecified() -> None:
    version = pb.ModelVersion(state=77)  # type: ignore[arg-type]
    assert codec.model_of_message(pb.Model(versions=[version])).versions[0].state == "unspecified"
