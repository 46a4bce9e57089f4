"""Messages become what jobs are made of, or an error that names the field."""

from dataclasses import replace

import numpy as np
import pytest

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.rows import Rows
from progan_service.serving.protocols.progan_v1 import parse
from progan_service.store.directions import Direction
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


def test_latents_come_as_vectors_as_seeds_or_as_a_range_of_seeds() -> None:
    given = parse.latents(vectors([1, 2, 3], [4, 5, 6]), MODEL)
    assert (given.rows(0, 2).tolist(), given.seeds(0, 2)) == ([[1, 2, 3], [4, 5, 6]], None)
    assert parse.latents(seeds(7, 1337, 2**64 - 1), MODEL).seeds(0, 3) == [7, 1337, 2**64 - 1]
    assert parse.latents(seed_range(2**64 - 1, 3), MODEL).seeds(0, 3) == [2**64 - 1, 0, 1]


def test_a_list_of_very_many_seeds_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidArgument, match="lists 1000001 seeds; at most 1000000 are read, give a seed_range"):
        parse.latents(seeds(*[7] * 1_000_001), MODEL)


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
        parse.latents(message, MODEL)
    assert refusal.value.argument == field
    assert says in refusal.value.description


# --- walks ---


def walk(request: pb.InterpolateRequest) -> Rows:
    return parse.walk(request, parse.latents(request.key_frames, MODEL, "key_frames"), 100)


@pytest.mark.parametrize(
    ("path", "loop", "frames"),
    [
        (pb.INTERPOLATION_PATH_LINEAR, False, [[4, 0, 0], [2, 2, 0], [0, 4, 0]]),
        (pb.INTERPOLATION_PATH_LINEAR, True, [[4, 0, 0], [2, 2, 0], [0, 4, 0], [2, 2, 0]]),
        (pb.INTERPOLATION_PATH_SPHERICAL, False, [[4, 0, 0], [8**0.5, 8**0.5, 0], [0, 4, 0]]),
        (pb.INTERPOLATION_PATH_SMOOTH, False, [[4, 0, 0], [8**0.5, 8**0.5, 0], [0, 4, 0]]),
        (pb.INTERPOLATION_PATH_UNSPECIFIED, False, [[4, 0, 0], [8**0.5, 8**0.5, 0], [0, 4, 0]]),
    ],
)
def test_a_walk_takes_the_path_that_is_asked_for(path: int, loop: bool, frames: list[list[float]]) -> None:
    request = pb.InterpolateRequest(key_frames=vectors([4, 0, 0], [0, 4, 0]), frames_between=1, path=path, loop=loop)
    np.testing.assert_allclose(walk(request).rows(0, len(frames)), frames, atol=1e-6)


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
        walk(request_)
    assert refusal.value.argument == field
    assert says in refusal.value.description


def test_a_pace_is_uniform_unless_it_is_even() -> None:
    assert [parse.is_even(pace) for pace in pb.Pace.values()] == [False, False, True]
    with pytest.raises(InvalidArgument, match="pace: is 7, which is no Pace"):
        parse.is_even(7)


# --- edits ---

SIZE = Direction("size", (1.0, 0.0, 0.0), "fitted")
RED = Direction("red", (0.0, 1.0, 0.0), "fitted")
YELLOW = Direction("yellow", (0.0, 0.9, 0.19**0.5), "fitted")
KNOWN = {direction.name: direction for direction in (SIZE, RED, YELLOW)}


def test_edits_are_written_in_one_order_whatever_theirs_is() -> None:
    size, red = pb.Edit(direction="size", offset=1.5, hold=["yellow", "red"]), pb.Edit(direction="red", set=-1)
    assert str(parse.edits([size, red], KNOWN)) == "red =-1, size +1.5 hold red yellow"
    assert str(parse.edits([red, size], KNOWN)) == "red =-1, size +1.5 hold red yellow"
    assert parse.edits([], KNOWN) is None


def test_an_edit_that_holds_a_direction_moves_along_what_is_left_of_its_own() -> None:
    moved = parse.edits([pb.Edit(direction="red", offset=1, hold=["size"])], KNOWN)
    assert moved is not None
    assert moved.edits[0].vector.tolist() == [0, 1, 0]
    tilted = Direction("tilted", (0.8, 0.6, 0.0), "fitted")
    moved = parse.edits([pb.Edit(direction="tilted", offset=1, hold=["size"])], {**KNOWN, "tilted": tilted})
    assert moved is not None
    np.testing.assert_allclose(moved.edits[0].vector, [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("edit", "field", "says"),
    [
        (pb.Edit(direction="sise", offset=1), "edits[1].direction", "is 'sise'; this version has: size, red, yellow"),
        (pb.Edit(direction="red"), "edits[1]", "of red is missing; give an offset, or a value to set"),
        (pb.Edit(direction="red", offset=4.5), "edits[1].offset", "of red is 4.5; must be -4 to 4"),
        (pb.Edit(direction="red", set=NAN), "edits[1].set", "of red is nan; must be -4 to 4"),
        (pb.Edit(direction="red", offset=1, hold=["blue"]), "edits[1].hold", "is 'blue'; this version has: size, red"),
        (pb.Edit(direction="red", offset=1, hold=["red"]), "edits[1].hold", "is 'red', the direction that moves"),
        (
            pb.Edit(direction="yellow", offset=1, hold=["size", "red"]),
            "edits[1].hold",
            "leaves 0.44 of yellow, and 0.5 must be left: yellow and red are nearly one direction (cosine 0.90)",
        ),
        (pb.Edit(direction="size", offset=1), "edits", "move size twice; give one edit for a direction"),
    ],
)
def test_a_bad_edit_is_refused_by_the_name_of_its_field(edit: pb.Edit, field: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse.edits([pb.Edit(direction="size", offset=1), edit], KNOWN)
    assert refusal.value.argument == field
    assert says in refusal.value.description


def test_two_names_for_one_direction_cannot_be_moved_apart() -> None:
    crimson = replace(RED, name="crimson")
    with pytest.raises(InvalidArgument, match="edits: of crimson and red move nearly one direction; leave one out"):
        parse.edits(
            [pb.Edit(direction="red", offset=1), pb.Edit(direction="crimson", offset=1)], {**KNOWN, "crimson": crimson}
        )


def test_more_than_16_edits_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="edits: has 17 edits; at most 16 are allowed"):
        parse.edits([pb.Edit(direction="size", offset=1)] * 17, KNOWN)


def test_a_version_without_directions_takes_no_edits() -> None:
    with pytest.raises(FailedPrecondition, match="this version of the model has no directions"):
        parse.edits([pb.Edit(direction="size", offset=1)], {})


# --- labels ---


def test_labels_are_left_out_or_given_for_all_images_or_for_each() -> None:
    assert parse.labels(pb.GenerateRequest(), MODEL, 3).rows(0, 3) == ()
    for message, given in ((matrix([0, 1]), [[0, 1]] * 3), (matrix([1, 0], [0, 1], [2, 2]), [[1, 0], [0, 1], [2, 2]])):
        (rows,) = parse.labels(pb.GenerateRequest(labels=message), LABELLED, 3).rows(0, 3)
        assert rows.tolist() == given


def test_labels_for_a_model_without_any_are_a_failed_precondition() -> None:
    with pytest.raises(FailedPrecondition, match="this model has none"):
        parse.labels(pb.GenerateRequest(labels=matrix([1, 0])), MODEL, 1)


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
        parse.labels(pb.GenerateRequest(labels=message), LABELLED, 3)
    assert refusal.value.argument == field
    assert says in refusal.value.description


@pytest.mark.parametrize("kind", [pb.GenerateRequest, pb.StreamGenerateRequest, pb.InterpolateRequest])
def test_labels_may_be_named_in_every_request_for_images(kind: type[parse.Request]) -> None:
    named = replace(LABELLED, label_names=("cat", "dog"))
    (rows,) = parse.labels(kind(label_names=["dog"]), named, 3).rows(0, 2)
    assert rows.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(InvalidArgument) as refusal:
        parse.labels(kind(label_names=["dog"], labels=matrix([1, 0])), named, 3)
    assert refusal.value.argument == "label_names"
    assert refusal.value.description == "is given, and labels as well; give one of them"


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
    assert parse.output_format(message) == format_


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
        parse.output_format(message)
    assert refusal.value.argument == field
    assert says in refusal.value.description
