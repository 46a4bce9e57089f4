"""Requests become arrays, or an error that names the field."""

from dataclasses import replace

import numpy as np
import pytest

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.latents.seeds import latents_from_seeds
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.grpc.progan_v1.parse import Format, Labels, Latents, Walk
from progan_service.store.metadata import ModelMetadata

MODEL = ModelMetadata(latent_size=3, resolution=4, channels=3)
LABELLED = replace(MODEL, label_count=2)
NAN, INFINITY = float("nan"), float("inf")


def matrix(*rows: list[float]) -> pb.FloatMatrix:
    return pb.FloatMatrix(rows=len(rows), columns=len(rows[0]), values=np.array(rows, "<f4").tobytes())


def vectors(*rows: list[float]) -> pb.Latents:
    return pb.Latents(vectors=matrix(*rows))


def seeds(*values: int) -> pb.Latents:
    return pb.Latents(seeds=pb.SeedList(seeds=values))


def seed_range(first: int, count: int) -> pb.Latents:
    return pb.Latents(seed_range=pb.SeedRange(first_seed=first, count=count))


# --- latents ---


def test_vectors_are_the_latents() -> None:
    latents = Latents.parse(vectors([1, 2, 3], [4, 5, 6], [7, 8, 9]), MODEL)
    assert latents.count == 3
    assert latents.rows(1, 3).tolist() == [[4, 5, 6], [7, 8, 9]]


def test_each_seed_gives_its_own_latent() -> None:
    latents = Latents.parse(seeds(7, 1337, 7), MODEL)
    assert latents.count == 3
    np.testing.assert_allclose(latents.rows(1, 2), [[0.40742207, -0.04005989, 0.96828276]], rtol=1e-6)
    np.testing.assert_array_equal(latents.rows(0, 1), latents.rows(2, 3))


def test_a_seed_range_is_the_same_as_its_seeds() -> None:
    in_a_range, listed = Latents.parse(seed_range(1336, 3), MODEL), Latents.parse(seeds(1336, 1337, 1338), MODEL)
    np.testing.assert_array_equal(in_a_range.rows(0, 3), listed.rows(0, 3))
    np.testing.assert_array_equal(in_a_range.rows(2, 3), listed.rows(2, 3))


def test_a_seed_range_goes_on_at_zero_after_the_last_seed() -> None:
    latents = Latents.parse(seed_range(2**64 - 1, 3), MODEL)
    np.testing.assert_array_equal(latents.rows(0, 3), latents_from_seeds(np.array([2**64 - 1, 0, 1], np.uint64), 3))
    np.testing.assert_array_equal(latents.rows(2, 3), latents.rows(0, 3)[2:])


def test_four_billion_seeds_cost_nothing_until_they_are_asked_for() -> None:
    latents = Latents.parse(seed_range(0, 2**32 - 1), MODEL)
    assert latents.count == 2**32 - 1
    assert latents.rows(2**32 - 3, 2**32 - 2).shape == (1, 3)


def test_a_list_of_very_many_seeds_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidArgument, match="lists 1000001 seeds; at most 1000000 are read, give a seed_range"):
        Latents.parse(seeds(*[7] * 1_000_001), MODEL)


def test_latents_know_the_seeds_they_are_made_of() -> None:
    assert Latents.parse(seeds(7, 1337, 2**64 - 1), MODEL).seeds(1, 3) == [1337, 2**64 - 1]
    assert Latents.parse(seed_range(2**64 - 2, 5), MODEL).seeds(1, 4) == [2**64 - 1, 0, 1]
    assert Latents.parse(vectors([1, 2, 3]), MODEL).seeds(0, 1) is None


@pytest.mark.parametrize(
    ("message", "field", "says"),
    [
        (pb.Latents(), "latents", "is missing; give vectors, seeds or a seed_range"),
        (pb.Latents(vectors=pb.FloatMatrix()), "latents.vectors.rows", "is empty; at least one image"),
        (pb.Latents(seeds=pb.SeedList()), "latents.seeds.seeds", "is empty; at least one image"),
        (seed_range(1337, 0), "latents.seed_range.count", "is empty; at least one image"),
        (vectors([1, 2]), "latents.vectors.columns", "is 2; must be 3, the latent_size of the model"),
        (
            pb.Latents(vectors=pb.FloatMatrix(rows=2, columns=3, values=b"1234")),
            "latents.vectors.values",
            "has 4 bytes; 2 x 3 floats take 24",
        ),
        (
            pb.Latents(vectors=pb.FloatMatrix(rows=2**32 - 1, columns=3)),
            "latents.vectors.values",
            "has 0 bytes; 4294967295 x 3 floats take 51539607540",
        ),
        (vectors([1, 2, 3], [1, NAN, 3]), "latents.vectors.values", "row 1, column 1 is nan; must be finite"),
        (vectors([1, 2, -INFINITY]), "latents.vectors.values", "row 0, column 2 is -inf; must be finite"),
        (vectors([1, 2, 3], [0, -0.0, 0]), "latents.vectors", "row 1 is all zero; a latent needs a direction"),
    ],
)
def test_bad_latents_are_refused_by_the_name_of_their_field(message: pb.Latents, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Latents.parse(message, MODEL)
    assert refusal.value.field == field
    assert says in refusal.value.description


# --- walks ---


def walk(keys: pb.Latents, frames_between: int = 1, **options: object) -> Walk:
    return Walk.parse(pb.InterpolateRequest(key_frames=keys, frames_between=frames_between, **options), MODEL, 100)


def test_a_walk_goes_from_key_frame_to_key_frame_along_the_circle() -> None:
    frames = walk(vectors([1, 0, 0], [0, 1, 0], [0, 0, 1]))
    assert frames.count == 5
    half = 0.5**0.5
    np.testing.assert_allclose(
        frames.rows(0, 5), [[1, 0, 0], [half, half, 0], [0, 1, 0], [0, half, half], [0, 0, 1]], atol=1e-6
    )


def test_a_linear_walk_is_straight() -> None:
    frames = walk(vectors([1, 0, 0], [0, 1, 0]), path=pb.INTERPOLATION_PATH_LINEAR)
    np.testing.assert_allclose(frames.rows(0, 3), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])


def test_a_loop_comes_back_to_the_first_key_frame_without_repeating_it() -> None:
    frames = walk(vectors([1, 0, 0], [0, 1, 0]), path=pb.INTERPOLATION_PATH_LINEAR, loop=True)
    np.testing.assert_allclose(frames.rows(0, frames.count), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]])


def test_no_frames_between_gives_the_key_frames() -> None:
    frames = walk(seeds(1, 2, 3), frames_between=0)
    np.testing.assert_array_equal(frames.rows(0, 3), Latents.parse(seeds(1, 2, 3), MODEL).rows(0, 3))


def test_a_walk_of_four_billion_frames_costs_nothing_until_they_are_asked_for() -> None:
    frames = walk(seeds(1, 2), frames_between=2**32 - 1)
    assert frames.count == 2**32 + 1
    np.testing.assert_allclose(frames.rows(2**32, 2**32 + 1), Latents.parse(seeds(2), MODEL).rows(0, 1))


def test_the_frames_of_a_walk_have_no_seeds() -> None:
    assert walk(seeds(1, 2)).seeds(0, 3) is None


OPPOSITE = vectors([0, 1, 0], [1, 0, 0], [-2, 0, 0])


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        (pb.InterpolateRequest(), "key_frames", "is missing"),
        (pb.InterpolateRequest(key_frames=seeds(1)), "key_frames", "holds 1 latents; 2 to 100 are allowed"),
        (pb.InterpolateRequest(key_frames=seed_range(0, 101)), "key_frames", "holds 101 latents; 2 to 100"),
        (pb.InterpolateRequest(key_frames=vectors([1, 2], [3, 4])), "key_frames.vectors.columns", "is 2; must be 3"),
        (pb.InterpolateRequest(key_frames=seeds(1, 2), path=9), "path", "is 9, which is no InterpolationPath"),
        (pb.InterpolateRequest(key_frames=OPPOSITE), "key_frames", "key frame 1 and the next one point in opposite"),
    ],
)
def test_a_bad_walk_is_refused_by_the_name_of_its_field(request_: pb.InterpolateRequest, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Walk.parse(request_, MODEL, 100)
    assert refusal.value.field == field
    assert says in refusal.value.description


def test_a_straight_walk_may_pass_between_opposite_key_frames() -> None:
    assert walk(OPPOSITE, path=pb.INTERPOLATION_PATH_LINEAR).count == 5


def test_opposite_ends_are_refused_in_a_loop_and_allowed_without() -> None:
    ends = vectors([1, 0, 0], [0, 1, 0], [-1, 0, 0])
    assert walk(ends).count == 5
    with pytest.raises(InvalidArgument, match="key frame 2 and the next one point in opposite directions"):
        walk(ends, loop=True)


# --- labels ---


def test_a_model_without_labels_gets_none() -> None:
    assert Labels.parse(pb.FloatMatrix(), MODEL, 3).rows(0, 3) == ()


def test_one_row_of_labels_is_for_all_images() -> None:
    (rows,) = Labels.parse(matrix([0, 1]), LABELLED, 3).rows(1, 3)
    assert rows.tolist() == [[0, 1], [0, 1]]


def test_one_row_of_labels_for_each_image() -> None:
    (rows,) = Labels.parse(matrix([1, 0], [0, 1], [0.5, 0.5]), LABELLED, 3).rows(1, 3)
    assert rows.tolist() == [[0, 1], [0.5, 0.5]]


def test_labels_of_key_frames_are_interpolated_on_a_straight_line() -> None:
    (rows,) = Labels.parse(matrix([1, 0], [0, 1]), LABELLED, count=2, frames_between=3).rows(0, 5)
    assert rows.tolist() == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]


def test_labels_for_a_model_without_any_are_a_failed_precondition() -> None:
    with pytest.raises(FailedPrecondition, match="this model has none"):
        Labels.parse(matrix([1, 0]), MODEL, 1)


@pytest.mark.parametrize(
    ("message", "field", "says"),
    [
        (pb.FloatMatrix(), "labels", "is missing; the model needs rows of 2 floats"),
        (matrix([1, 0, 0]), "labels.columns", "is 3; must be 2, the label_count of the model"),
        (matrix([1, 0], [0, 1]), "labels", "has 2 rows; give 1 for all images or 3, one for each"),
        (pb.FloatMatrix(rows=1, columns=2), "labels.values", "has 0 bytes; 1 x 2 floats take 8"),
        (matrix([1, NAN]), "labels.values", "row 0, column 1 is nan; must be finite"),
    ],
)
def test_bad_labels_are_refused_by_the_name_of_their_field(message: pb.FloatMatrix, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Labels.parse(message, LABELLED, 3)
    assert refusal.value.field == field
    assert says in refusal.value.description


# --- formats ---


@pytest.mark.parametrize(
    ("message", "format_"),
    [
        (pb.OutputFormat(), Format(Encoding.RAW, 90)),
        (pb.OutputFormat(encoding=pb.IMAGE_ENCODING_RAW), Format(Encoding.RAW, 90)),
        (pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG), Format(Encoding.PNG, 90)),
        (pb.OutputFormat(encoding=pb.IMAGE_ENCODING_JPEG), Format(Encoding.JPEG, 90)),
        (pb.OutputFormat(encoding=pb.IMAGE_ENCODING_WEBP, quality=1), Format(Encoding.WEBP, 1)),
        (pb.OutputFormat(encoding=pb.IMAGE_ENCODING_JPEG, quality=100), Format(Encoding.JPEG, 100)),
    ],
)
def test_formats(message: pb.OutputFormat, format_: Format) -> None:
    assert Format.parse(message) == format_


@pytest.mark.parametrize(
    ("message", "field", "says"),
    [
        (pb.OutputFormat(encoding=5), "format.encoding", "is 5, which is no ImageEncoding"),
        (pb.OutputFormat(quality=50), "format.quality", "is 50, but RAW loses nothing; leave it out"),
        (
            pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG, quality=50),
            "format.quality",
            "is 50, but PNG loses nothing; leave it out",
        ),
        (
            pb.OutputFormat(encoding=pb.IMAGE_ENCODING_JPEG, quality=101),
            "format.quality",
            "is 101; must lie between 1 and 100",
        ),
    ],
)
def test_a_bad_format_is_refused_by_the_name_of_its_field(message: pb.OutputFormat, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Format.parse(message)
    assert refusal.value.field == field
    assert says in refusal.value.description
