"""What is asked for, as arrays: rows, walks, labels, formats; and what breaks a rule is named by a plain word."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds
from progan_service.latents.walks import WalkPath
from progan_service.serving.errors import FailedPrecondition, InvalidArgument
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format, of_quality
from progan_service.serving.jobs.rows import Rows, of_label_names, of_labels, of_range, of_rows, of_seeds
from progan_service.serving.jobs.walks import of_walk
from progan_service.store.metadata import ModelMetadata

MODEL = ModelMetadata(latent_size=3, resolution=4, channels=3)
LABELLED = replace(MODEL, label_count=2, label_names=("cat", "dog"))
ATTRIBUTES = replace(MODEL, label_count=3, label_names=("bald", "glasses", "smile"), label_kind="attributes")
NAN, INFINITY = float("nan"), float("inf")


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def given(*rows: list[float]) -> Rows:
    return of_rows(floats(*rows), 3)


def seeds(*values: int) -> Rows:
    return of_seeds(np.array(values, np.uint64), 3)


# --- rows ---


def test_given_rows_are_the_latents_and_have_no_seeds() -> None:
    rows = given([1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert rows.count == 3
    assert rows.rows(1, 3).tolist() == [[4, 5, 6], [7, 8, 9]]
    assert rows.seeds(0, 1) is None


def test_each_seed_gives_its_own_latent() -> None:
    rows = seeds(7, 1337, 7)
    assert rows.count == 3
    np.testing.assert_allclose(rows.rows(1, 2), [[0.40742207, -0.04005989, 0.96828276]], rtol=1e-6)
    np.testing.assert_array_equal(rows.rows(0, 1), rows.rows(2, 3))
    assert rows.seeds(1, 3) == [1337, 7]


def test_a_range_of_seeds_is_the_same_as_its_seeds() -> None:
    in_a_range, listed = of_range(1336, 3, 3), seeds(1336, 1337, 1338)
    np.testing.assert_array_equal(in_a_range.rows(0, 3), listed.rows(0, 3))
    np.testing.assert_array_equal(in_a_range.rows(2, 3), listed.rows(2, 3))
    assert in_a_range.seeds(1, 3) == [1337, 1338]


def test_a_range_goes_on_at_zero_after_the_last_seed() -> None:
    rows = of_range(2**64 - 2, 5, 3)
    assert rows.seeds(1, 4) == [2**64 - 1, 0, 1]
    np.testing.assert_array_equal(rows.rows(1, 4), latents_from_seeds(np.array([2**64 - 1, 0, 1], np.uint64), 3))


def test_four_billion_seeds_cost_nothing_until_they_are_asked_for() -> None:
    rows = of_range(0, 2**32 - 1, 3)
    assert rows.count == 2**32 - 1
    assert rows.rows(2**32 - 3, 2**32 - 2).shape == (1, 3)


# --- walks ---


def walk(keys: Rows, frames_between: int = 1, *, path: WalkPath = "spherical", loop: bool = False) -> Rows:
    return of_walk(keys, frames_between, 100, path=path, loop=loop)


def test_a_walk_goes_from_key_frame_to_key_frame_along_the_circle() -> None:
    frames = walk(given([1, 0, 0], [0, 1, 0], [0, 0, 1]))
    assert frames.count == 5
    half = 0.5**0.5
    np.testing.assert_allclose(
        frames.rows(0, 5), [[1, 0, 0], [half, half, 0], [0, 1, 0], [0, half, half], [0, 0, 1]], atol=1e-6
    )


def test_a_straight_walk_is_straight() -> None:
    frames = walk(given([1, 0, 0], [0, 1, 0]), path="linear")
    np.testing.assert_allclose(frames.rows(0, 3), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])


def test_a_loop_comes_back_to_the_first_key_frame_without_repeating_it() -> None:
    frames = walk(given([1, 0, 0], [0, 1, 0]), path="linear", loop=True)
    np.testing.assert_allclose(frames.rows(0, frames.count), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]])


def test_no_frames_between_gives_the_key_frames() -> None:
    np.testing.assert_array_equal(walk(seeds(1, 2, 3), 0).rows(0, 3), seeds(1, 2, 3).rows(0, 3))


def test_a_walk_of_four_billion_frames_costs_nothing_until_they_are_asked_for() -> None:
    frames = walk(seeds(1, 2), 2**32 - 1)
    assert frames.count == 2**32 + 1
    np.testing.assert_allclose(frames.rows(2**32, 2**32 + 1), seeds(2).rows(0, 1))


def test_the_frames_of_a_walk_have_no_seeds() -> None:
    assert walk(seeds(1, 2)).seeds(0, 3) is None


OPPOSITE = ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [-2.0, 0.0, 0.0])


def test_a_straight_walk_may_pass_between_opposite_key_frames() -> None:
    assert walk(given(*OPPOSITE), path="linear").count == 5


def test_opposite_ends_are_refused_in_a_loop_and_allowed_without() -> None:
    ends = given([1, 0, 0], [0, 1, 0], [-1, 0, 0])
    assert walk(ends).count == 5
    with pytest.raises(InvalidArgument, match="key frame 2 and the next one point in opposite directions"):
        walk(ends, loop=True)


# --- labels ---


def test_a_model_without_labels_gets_none() -> None:
    assert of_labels(None, MODEL, 3).rows(0, 3) == ()


def test_one_row_of_labels_is_for_all_images() -> None:
    (rows,) = of_labels(floats([0, 1]), LABELLED, 3).rows(1, 3)
    assert rows.tolist() == [[0, 1], [0, 1]]


def test_one_row_of_labels_for_each_image() -> None:
    (rows,) = of_labels(floats([1, 0], [0, 1], [0.5, 0.5]), LABELLED, 3).rows(1, 3)
    assert rows.tolist() == [[0, 1], [0.5, 0.5]]


def test_labels_of_key_frames_are_interpolated_on_a_straight_line() -> None:
    (rows,) = of_labels(floats([1, 0], [0, 1]), LABELLED, count=2, frames_between=3).rows(0, 5)
    assert rows.tolist() == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]


def test_attributes_that_are_not_given_do_not_hold() -> None:
    (rows,) = of_labels(None, ATTRIBUTES, 5).rows(3, 5)
    assert rows.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_attributes_may_hold_together_and_in_part() -> None:
    (rows,) = of_labels(floats([0, 1, 0.25]), ATTRIBUTES, 1).rows(0, 1)
    assert rows.tolist() == [[0, 1, 0.25]]


def test_labels_in_words() -> None:
    names = ("bald", "glasses", "smile")
    several = of_labels(floats([0, 1, 0.25], [0, 0, 0], [1, 0, 0]), ATTRIBUTES, 3)
    assert [several.text(index, names) for index in range(3)] == ["glasses, smile 0.25", "none", "bald"]
    assert of_labels(floats([0, 1, 1]), ATTRIBUTES, 2).text(1, ()) == "label 1, label 2"
    assert of_labels(None, MODEL, 1).text(0, ()) == ""


def test_names_are_one_class_or_the_attributes_that_hold() -> None:
    assert of_label_names(["dog"], LABELLED).tolist() == [[0, 1]]
    assert of_label_names(["smile", "bald"], ATTRIBUTES).tolist() == [[1, 0, 1]]
    assert of_label_names(["glasses"], ATTRIBUTES).tolist() == [[0, 1, 0]]


def test_labels_for_a_model_without_any_are_a_failed_precondition() -> None:
    with pytest.raises(FailedPrecondition, match="labels were given, and this model has none"):
        of_labels(floats([1, 0]), MODEL, 1)
    with pytest.raises(FailedPrecondition, match="label names were given, and this model has no labels"):
        of_label_names(["cat"], MODEL)
    with pytest.raises(FailedPrecondition, match="the names of this model's labels are unknown"):
        of_label_names(["cat"], replace(MODEL, label_count=2))


# --- formats ---


def test_a_format_has_the_quality_that_is_asked_for_or_the_default_one() -> None:
    assert of_quality(Encoding.JPEG, 50) == Format(Encoding.JPEG, 50)
    assert of_quality(Encoding.WEBP, 0) == of_quality(Encoding.WEBP, 90)


# --- what breaks a rule ---


@pytest.mark.parametrize(
    ("ask", "argument", "says"),
    [
        (lambda: of_rows(np.zeros((0, 3), np.float32), 3), "rows", "is empty; at least one image"),
        (lambda: given([1, 2]), "columns", "is 2; must be 3, the latent_size of the model"),
        (lambda: given([1, 2, 3], [1, NAN, 3]), "values", "row 1, column 1 is nan; must be finite"),
        (lambda: given([1, 2, -INFINITY]), "values", "row 0, column 2 is -inf; must be finite"),
        (lambda: given([1, 2, 3], [0, -0.0, 0]), "latents", "row 1 is all zero; a latent needs a direction"),
        (lambda: seeds(), "seeds", "is empty; at least one image"),
        (lambda: of_range(1337, 0, 3), "count", "is empty; at least one image"),
        (lambda: walk(seeds(1)), "key_frames", "holds 1 latents; 2 to 100 are allowed"),
        (lambda: walk(of_range(0, 2**32 - 1, 3)), "key_frames", "holds 4294967295 latents; 2 to 100 are allowed"),
        (lambda: walk(given(*OPPOSITE)), "key_frames", "key frame 1 and the next one point in opposite"),
        (lambda: of_labels(None, LABELLED, 3), "labels", "is missing; the model needs rows of 2 floats: cat, dog"),
        (lambda: of_labels(floats([1, 0, 0]), LABELLED, 3), "columns", "is 3; must be 2, the label_count of the model"),
        (lambda: of_labels(floats([1, 0], [0, 1]), LABELLED, 3), "labels", "has 2 rows; give 1 for all images or 3"),
        (lambda: of_labels(floats([1, NAN]), LABELLED, 3), "values", "row 0, column 1 is nan; must be finite"),
        (
            lambda: of_labels(floats([0, 1, 0], [1, -1, 0]), ATTRIBUTES, 2),
            "values",
            "row 1, column 1 is -1; must lie between 0 (not) and 1 (holds)",
        ),
        (lambda: of_labels(floats([0, 1.5, 0]), ATTRIBUTES, 1), "values", "row 0, column 1 is 1.5; must lie between"),
        (lambda: of_label_names(["hat"], LABELLED), "label_names", "'hat' must be one of cat, dog"),
        (
            lambda: of_label_names(["cat", "dog"], LABELLED),
            "label_names",
            "has 2 names; an image of this model has one",
        ),
        (lambda: of_label_names(["bald", "bald"], ATTRIBUTES), "label_names", "'bald' is given twice"),
        (
            lambda: of_label_names(
                ["\x1b[2J" * 99], replace(LABELLED, label_count=25, label_names=(*"abcdefghijklmnopqrstuvwxy",))
            ),
            "label_names",
            "\\x1b[2J' must be one of a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t and 5 more",
        ),
        (lambda: of_quality(Encoding.PNG, 50), "quality", "is 50, but PNG loses nothing; leave it out"),
        (lambda: of_quality(Encoding.JPEG, 101), "quality", "is 101; must lie between 1 and 100"),
    ],
)
def test_what_breaks_a_rule_is_named_by_a_plain_word(ask: Callable[[], object], argument: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        ask()
    assert refusal.value.argument == argument
    assert says in refusal.value.description
