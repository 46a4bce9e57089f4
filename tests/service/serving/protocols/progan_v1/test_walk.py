"""Walks between images."""

from typing import Any

import numpy as np
import pytest
from progan_v1 import PATIENCE_S, Guest, greys, matrix, pixels, refusal, seed_range, seeds, shaded, vectors

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc


def walk(host: Guest, **fields: Any) -> list[int]:
    replies = host.stub.Interpolate(pb.InterpolateRequest(**fields), timeout=PATIENCE_S)
    frames: list[int] = []
    for reply in replies:
        assert reply.first_index == len(frames)
        frames += greys(reply.images)
    return frames


def test_a_straight_walk(puppets: Guest) -> None:
    straight = pb.INTERPOLATION_PATH_LINEAR
    frames = walk(puppets, key_frames=shaded(0, 4, 8), frames_between=1, path=straight)
    assert frames == [100, 120, 140, 160, 180]


def test_a_straight_loop_comes_back_without_repeating_its_first_frame(puppets: Guest) -> None:
    straight = pb.INTERPOLATION_PATH_LINEAR
    frames = walk(puppets, key_frames=shaded(0, 4), frames_between=3, path=straight, loop=True)
    assert frames == [100, 110, 120, 130, 140, 130, 120, 110]


def test_a_walk_along_the_circle_is_the_default(puppets: Guest) -> None:
    quarter = vectors((10, 0, 0, 0), (0, 0, 0, 10))
    assert walk(puppets, key_frames=quarter, frames_between=1) == [200, 170, 100]  # 100 + 100 cos 45 degrees
    named = pb.INTERPOLATION_PATH_SPHERICAL
    assert walk(puppets, key_frames=quarter, frames_between=1, path=named) == [200, 170, 100]


def test_labels_of_key_frames_change_along_the_walk(puppets: Guest) -> None:
    frames = walk(
        puppets,
        model=pb.ModelSelector(name="labelled"),
        key_frames=shaded(1, 2),
        frames_between=3,
        labels=matrix((1, 0), (0, 1)),
    )
    assert frames == [0, 25, 50, 75, 100]


def test_the_key_frames_of_a_walk_are_the_images_of_their_seeds(tiny: pb_grpc.ImageGeneratorServiceStub) -> None:
    images = tiny.Generate(pb.GenerateRequest(latents=seeds(1, 2, 3)), timeout=PATIENCE_S).images
    request = pb.InterpolateRequest(key_frames=seeds(1, 2, 3), frames_between=9)
    replies = tiny.Interpolate(request, timeout=PATIENCE_S)
    frames = np.concatenate([pixels(reply.images) for reply in replies])
    assert len(frames) == 21
    np.testing.assert_array_equal(frames[::10], pixels(images))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.InterpolateRequest(), "key_frames"),
        (pb.InterpolateRequest(key_frames=seeds(1)), "key_frames"),
        (pb.InterpolateRequest(key_frames=seed_range(0, 13)), "key_frames"),
        (pb.InterpolateRequest(key_frames=vectors((1, 2, 3, 4), (-2, -4, -6, -8))), "key_frames"),
        (pb.InterpolateRequest(key_frames=seeds(1, 2), path=5), "path"),
        (pb.InterpolateRequest(key_frames=seeds(1, 2), format=pb.OutputFormat(quality=5)), "format.quality"),
    ],
)
def test_a_walk_that_breaks_a_rule_is_an_invalid_argument_and_names_the_field(
    puppets: Guest, request_: pb.InterpolateRequest, field: str
) -> None:
    refused = refusal(lambda: list(puppets.stub.Interpolate(request_, timeout=PATIENCE_S)))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", field)
