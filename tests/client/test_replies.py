"""Replies become images, frames and models."""

import math
from typing import Any

import numpy as np
import pytest

from progan_client import ArgumentError, ReplyError, ServedModel, StageTimes
from progan_client.replies import frames_of_part, images_of_part, images_of_reply, model_of_message
from progan_client.requests import generate_request, stream_generate_request
from progan_protos.v1 import image_generator_pb2 as pb


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
    images = images_of_reply(reply(), generate_request(count=2, seed=2**64 - 1))
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
    assert images_of_reply(reply(), generate_request(count=2)).pixels.flags.writeable


def test_latents_have_no_seeds() -> None:
    assert images_of_reply(reply(), generate_request(latents=[[1.0], [-2.0]])).seeds is None


def test_a_part_of_a_stream_knows_its_own_seeds() -> None:
    request = stream_generate_request(generate_request(seeds=[10, 20, 30, 40]))
    whole = reply()
    part = pb.StreamGenerateResponse(first_index=1, images=whole.images, latents=whole.latents, model=whole.model)
    assert images_of_part(part, request).seeds == (20, 30)


def test_frames_are_numbered_along_the_walk() -> None:
    whole = reply()
    part = pb.InterpolateResponse(first_index=6, images=whole.images, latents=whole.latents, model=whole.model)
    frames = list(frames_of_part(part))
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
        ({"images": pb.Images(channels=7)}, "the service announced images of shape (2, 1, 2, 7)"),
        ({"images": pb.Images(width=2**31)}, "the service announced images of shape (2, 1, 2147483648, 1)"),
        ({"latents": pb.FloatMatrix(values=b"\x00")}, "the service sent latents of shape (2, 1) for 2 images"),
    ],
)
def test_a_reply_that_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ReplyError) as caught:
        images_of_reply(reply(**changes), generate_request(count=2))
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
    model = model_of_message(message)
    assert (model.name, model.is_default, model.error) == ("fruits", True, "rollout.json: not readable")
    assert (model.serving_version, model.pinned_version, model.version_labels) == (2, 1, {"canary": 2})
    assert [(version.version, version.state) for version in model.versions] == [(2, "ready"), (1, "draining")]
    assert model.versions[0].label_names == ("a", "b")


def test_a_model_may_have_no_version_that_serves_or_is_pinned() -> None:
    model = model_of_message(pb.Model(name="fruits"))
    assert (model.serving_version, model.pinned_version, model.version_labels) == (None, None, {})
    with pytest.raises(ArgumentError, match="version: must be given: no version of model fruits is serving"):
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
    version = model_of_message(pb.Model(versions=[message])).versions[0]
    assert version.provenance == written
    assert repr(version.provenance["images_shown"]) == "280096"
    assert repr(version.provenance["training"]["batch_sizes"]) == "{'4': 32}"
    assert repr(version.provenance["training"]["steps"]) == "[1, 2.5, None, '8']"


def test_a_provenance_may_have_numbers_that_json_lacks() -> None:
    message = pb.ModelVersion()
    message.provenance.update({"loss": math.inf, "largest": 1e300})
    provenance = model_of_message(pb.Model(versions=[message])).versions[0].provenance
    assert provenance == {"loss": math.inf, "largest": int(1e300)}


def test_a_source_that_is_not_text_is_empty() -> None:
    message = pb.ModelVersion()
    message.provenance.update({"source": 7, "origin": ["a", "b"], "license": None})
    version = model_of_message(pb.Model(versions=[message])).versions[0]
    assert (version.source, version.origin, version.license) == ("", "", "")


def test_a_state_newer_than_this_client_is_unspecified() -> None:
    version = pb.ModelVersion(state=77)  # type: ignore[arg-type]
    assert model_of_message(pb.Model(versions=[version])).versions[0].state == "unspecified"
