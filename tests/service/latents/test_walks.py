"""Paths between latents, and where on them the frames are."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.latents.walks import (
    OppositeLatentsError,
    Pace,
    UniformPace,
    WalkPath,
    check_path,
    even_pace,
    probes_a_segment,
    walk,
    walk_length,
)


def rows(*values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def frames_of(
    keys: NDArray[np.float32], frames_between: int, path: WalkPath, *, loop: bool = False
) -> NDArray[np.float32]:
    """All frames of a walk at a uniform pace."""
    count = walk_length(len(keys), frames_between, loop)
    return walk(keys, UniformPace(frames_between).places(0, count), path, loop=loop)


def turns(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The angles between each step of a closed path and the next, in degrees."""
    steps = np.roll(points, -1, axis=0) - points
    units = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return np.asarray(np.degrees(np.arccos(np.clip((units * np.roll(units, -1, axis=0)).sum(axis=1), -1, 1))))


def test_the_length_of_a_walk() -> None:
    assert walk_length(3, 4, loop=False) == 11
    assert walk_length(3, 4, loop=True) == 15
    assert walk_length(2, 0, loop=False) == 2


def test_a_straight_walk() -> None:
    frames = frames_of(rows([0, 0], [4, 8]), 3, "linear")
    np.testing.assert_array_equal(frames, rows([0, 0], [1, 2], [2, 4], [3, 6], [4, 8]))


def test_a_spherical_walk_turns_evenly() -> None:
    frames = frames_of(rows([1, 0], [0, 1]), 2, "spherical")
    half_root3 = math.sqrt(3) / 2
    np.testing.assert_allclose(frames, rows([1, 0], [half_root3, 0.5], [0.5, half_root3], [0, 1]), atol=1e-7)


@pytest.mark.parametrize("path", ["spherical", "smooth"])
def test_on_the_sphere_the_length_changes_evenly(path: WalkPath) -> None:
    frames = frames_of(rows([1, 0], [0, 5]), 3, path)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), [1, 2, 3, 4, 5], rtol=1e-6)


@pytest.mark.parametrize("path", ["linear", "spherical", "smooth"])
def test_a_walk_meets_its_key_frames_exactly(path: WalkPath) -> None:
    keys = latents_from_seeds(seed_range(1, 3), 512)
    np.testing.assert_array_equal(frames_of(keys, 9, path)[::10], keys)
    np.testing.assert_array_equal(frames_of(keys, 9, path, loop=True)[::10], keys)


def test_a_loop_goes_back_to_the_first_without_repeating_it() -> None:
    frames = frames_of(rows([0, 2], [2, 0]), 1, "linear", loop=True)
    np.testing.assert_array_equal(frames, rows([0, 2], [1, 1], [2, 0], [1, 1]))


@pytest.mark.parametrize("path", ["linear", "spherical", "smooth"])
def test_a_part_of_a_walk_is_cut_from_the_whole(path: WalkPath) -> None:
    keys, pace = latents_from_seeds(seed_range(1, 3), 16), UniformPace(4)
    whole = walk(keys, pace.places(0, 15), path, loop=True)
    np.testing.assert_array_equal(walk(keys, pace.places(7, 12), path, loop=True), whole[7:12])


@pytest.mark.parametrize("path", ["spherical", "smooth"])
def test_between_parallel_latents_only_the_length_changes(path: WalkPath) -> None:
    frames = frames_of(rows([1, 1], [3, 3]), 1, path)
    np.testing.assert_allclose(frames, rows([1, 1], [2, 2], [3, 3]), rtol=1e-6)


def test_between_nearly_parallel_latents_nothing_jumps() -> None:
    frames = frames_of(rows([1, 0], [1, 1e-7]), 9, "spherical")
    np.testing.assert_allclose(frames[:, 0], np.ones(11), rtol=1e-6)
    assert (np.diff(frames[:, 1]) > 0).all()


# Smooth paths


def test_a_smooth_path_between_two_latents_is_the_great_circle() -> None:
    frames = frames_of(rows([1, 0], [0, 1]), 3, "smooth")
    angles = np.degrees(np.arctan2(frames[:, 1], frames[:, 0]))
    np.testing.assert_allclose(angles, [0, 18.435, 45, 71.565, 90], atol=1e-3)


def test_a_smooth_path_makes_no_turn_at_its_key_frames() -> None:
    keys = latents_from_seeds(seed_range(0, 6), 128)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    smooth, sharp = (frames_of(keys, 99, path, loop=True).astype(np.float64) for path in ("smooth", "spherical"))
    assert turns(sharp).max() > 75
    assert turns(smooth).max() < 4


def test_an_open_smooth_path_does_not_know_that_it_could_be_closed() -> None:
    frames = frames_of(rows([1, 0, 0], [0, 1, 0], [0, 0, 1]), 1, "smooth")
    np.testing.assert_allclose(frames[1], np.array([7, 10, -1]) / 150**0.5, rtol=1e-6)


# What has no path


def test_opposite_neighbours_have_no_path_on_the_sphere() -> None:
    keys = rows([1, 0], [0, 1], [0, -2], [1, 0])
    with pytest.raises(
        OppositeLatentsError, match="key frame 1 and the next one point in opposite directions"
    ) as caught:
        check_path(keys, "spherical", loop=False)
    assert caught.value.key_frame == 1
    check_path(keys, "linear", loop=True)


def test_the_last_and_the_first_are_neighbours_only_in_a_loop() -> None:
    keys = rows([1, 0], [0, 1], [-1, 0])
    check_path(keys, "spherical", loop=False)
    with pytest.raises(OppositeLatentsError, match="key frame 2"):
        check_path(keys, "spherical", loop=True)


def test_a_smooth_path_through_the_centre_is_refused() -> None:
    with pytest.raises(OppositeLatentsError, match="key frame 0"):
        check_path(rows([1, 0, 0], [-1, 0.05, 0]), "smooth", loop=False)
    check_path(rows([1, 0], [0, 1], [-1, 0]), "smooth", loop=False)


def test_equal_neighbours_have_a_path() -> None:
    check_path(rows([1, 2], [1, 2]), "spherical", loop=True)
    check_path(rows([1, 2], [1, 2]), "smooth", loop=True)


# Paces


def positions(pace: Pace, count: int) -> list[float]:
    segments, fractions = pace.places(0, count)
    return [round(float(position), 6) for position in segments + fractions]


def test_a_uniform_pace_has_a_key_frame_after_every_few_frames() -> None:
    assert positions(UniformPace(1), 5) == [0, 0.5, 1, 1.5, 2]


def test_an_even_pace_takes_more_frames_where_the_image_changes_more() -> None:
    """From probe to probe, two a segment, the image changes by 1, 1, 3 and 3: by 8 in all, and by 2 with each step."""
    pace = even_pace(np.array([1.0, 1.0, 3.0, 3.0]), 2, 5, loop=False)
    assert positions(pace, 5) == [0, 1, 1.333333, 1.666667, 2]


def test_in_a_loop_the_last_step_leads_back_to_the_first_frame() -> None:
    pace = even_pace(np.array([1.0, 1.0, 3.0, 3.0]), 2, 4, loop=True)
    assert positions(pace, 4) == [0, 1, 1.333333, 1.666667]


def test_an_even_pace_is_uniform_where_nothing_changes() -> None:
    assert positions(even_pace(np.zeros(4), 2, 5, loop=False), 5) == [0, 0.5, 1, 1.5, 2]


def test_a_stretch_without_change_is_passed_in_one_step() -> None:
    pace = even_pace(np.array([1.0, 0.0, 0.0, 1.0]), 2, 3, loop=False)
    assert positions(pace, 3) == [0, 1, 2]


def test_at_least_16_and_at_most_64_probes_measure_a_segment() -> None:
    assert [probes_a_segment(frames) for frames in (0, 15, 23, 63, 1000)] == [16, 16, 24, 64, 64]
