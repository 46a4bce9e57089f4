import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.errors import FileError
from progan_service.evaluation import swd
from progan_service.evaluation.images import ImageSetError
from progan_service.evaluation.swd import (
    PatchSet,
    directions,
    laplacian_pyramid,
    level_resolutions,
    patch_centres,
    pyramid_down,
    pyramid_up,
    sliced_wasserstein,
)

Draw = Callable[[int, int, int], NDArray[np.uint8]]


def planes(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.transpose(0, 3, 1, 2).astype(np.float32)


def distances(
    a: NDArray[np.uint8], b: NDArray[np.uint8], *, draws: tuple[int, int] = (0, 1), seed: int = 0, batch_size: int = 64
) -> dict[int, float]:
    with PatchSet(seed=seed, draw=draws[0]) as patches_a, PatchSet(seed=seed, draw=draws[1]) as patches_b:
        for images, patches in ((a, patches_a), (b, patches_b)):
            for start in range(0, len(images), batch_size):
                patches.add(images[start : start + batch_size])
        return sliced_wasserstein(patches_a, patches_b, seed=seed)


def test_the_pyramid_is_that_of_the_original_implementation(draw_blocks: Draw) -> None:
    images = planes(draw_blocks(1, 64, 64))
    assert images.sum(dtype=np.float64) == 99766964
    half = pyramid_down(images)
    assert half.shape == (64, 3, 32, 32)
    assert half[0, 0, 0, :4] == pytest.approx([110.171875, 107.1640625, 105.9609375, 114.78125], abs=1e-4)
    assert (half.mean(), half.std()) == pytest.approx((126.873474, 51.028214), abs=1e-4)
    double = pyramid_up(half)
    assert double.shape == (64, 3, 64, 64)
    assert double[0, 0, 0, :4] == pytest.approx([110.74975586, 109.83935547, 108.27185059, 107.2109375], abs=1e-4)
    assert (double.mean(), double.std()) == pytest.approx((126.861519, 47.984272), abs=1e-4)
    fine, middle, rest = laplacian_pyramid(images, 3)
    assert (fine.mean(), fine.std()) == pytest.approx((-0.00126496, 25.921148), abs=1e-4)
    assert (middle.mean(), middle.std()) == pytest.approx((-0.00216460, 21.413605), abs=1e-4)
    assert (rest.mean(), rest.std()) == pytest.approx((126.897209, 41.897129), abs=1e-4)


def test_the_levels_of_a_pyramid_add_up_to_the_image(draw_blocks: Draw) -> None:
    images = planes(draw_blocks(1, 2, 64))
    fine, middle, rest = laplacian_pyramid(images, 3)
    assert fine + pyramid_up(middle + pyramid_up(rest)) == pytest.approx(images, abs=1e-4)


def test_an_even_grey_stays_what_it_is_to_the_edges() -> None:
    grey = np.full((1, 3, 32, 32), 77, np.float32)
    assert (pyramid_down(grey) == 77).all()
    assert (pyramid_up(grey) == 77).all()


def test_a_dot_spreads_as_1_4_6_4_1() -> None:
    dot = np.zeros((1, 1, 16, 16), np.float32)
    dot[0, 0, 8, 8] = 256
    assert pyramid_down(dot)[0, 0, 4, 3:6].tolist() == [6, 36, 6]
    assert (pyramid_up(dot)[0, 0, 16, 14:19] / 24).tolist() == [1, 4, 6, 4, 1]


@pytest.mark.parametrize(
    ("resolution", "levels"),
    [
        (1024, (1024, 512, 256, 128, 64, 32, 16)),
        (128, (128, 64, 32, 16)),
        (32, (32, 16)),
        (16, (16,)),
        (8, (8,)),
        (7, (7,)),
        (48, (48, 24)),
    ],
)
def test_levels_go_down_to_16(resolution: int, levels: tuple[int, ...]) -> None:
    assert level_resolutions(resolution) == levels


def test_centres_keep_whole_patches_inside_and_reach_both_edges() -> None:
    centres = patch_centres(seed=1, draw=0, resolution=64, first=0, count=1000)
    assert centres.shape == (1000, 128, 2)
    assert (centres.min(), centres.max()) == (3, 60)
    assert np.bincount(centres[..., 0].ravel())[3:] == pytest.approx(128_000 / 58, rel=0.1)
    assert np.corrcoef(centres[..., 0].ravel(), centres[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.01)


def test_centres_belong_to_the_image_and_not_to_its_batch() -> None:
    whole = patch_centres(seed=9, draw=1, resolution=32, first=0, count=50)
    assert (patch_centres(9, 1, 32, first=20, count=17) == whole[20:37]).all()


def test_sets_levels_images_and_seeds_have_centres_of_their_own() -> None:
    first = patch_centres(0, 0, 64, 0, 1)
    for other in ((1, 0, 64, 0, 1), (0, 1, 64, 0, 1), (0, 0, 32, 0, 1), (0, 0, 64, 1, 1)):
        assert (patch_centres(*other) != first).any()


def test_the_centres_of_a_seed_stay_what_they_were() -> None:
    assert patch_centres(1, 0, 64, 0, 1)[0, :4].tolist() == [[54, 24], [10, 35], [57, 3], [38, 19]]


def test_an_image_of_7x7_has_one_place_for_a_patch() -> None:
    assert (patch_centres(5, 2, 7, 0, 3) == 3).all()


def test_directions_have_length_1_and_no_favourite() -> None:
    rows = np.concatenate([directions(0, 64, repeat) for repeat in range(4)])
    assert rows.dtype == np.float32
    assert rows.shape == (512, 147)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
    assert rows.mean() == pytest.approx(0, abs=0.002)
    assert abs(np.corrcoef(rows) - np.eye(512)).max() < 0.5


def test_repeats_levels_and_seeds_have_directions_of_their_own() -> None:
    first = directions(0, 64, 0)
    for other in ((1, 64, 0), (0, 32, 0), (0, 64, 1)):
        assert abs(directions(*other) - first).max() > 0.1
    assert directions(0, 64, 0).tolist() == first.tolist()


def test_a_patch_is_cut_around_its_centre_and_standardised_by_colour(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 3, 16)
    with PatchSet(seed=4, draw=0) as patches:
        patches.add(images)
        rows = patches.project(16, np.eye(147, dtype=np.float32)).T.reshape(3, 128, 3, 7, 7)
    assert rows.mean(axis=(0, 1, 3, 4)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert rows.std(axis=(0, 1, 3, 4)) == pytest.approx([1, 1, 1], abs=1e-5)
    centres = patch_centres(4, 0, 16, 0, 3)
    cut = [
        [image[y - 3 : y + 4, x - 3 : x + 4].transpose(2, 0, 1) for y, x in places]
        for image, places in zip(images.astype(np.float32), centres, strict=True)
    ]
    mean, deviation = np.mean(cut, axis=(0, 1, 3, 4)), np.std(cut, axis=(0, 1, 3, 4))
    assert rows == pytest.approx((np.array(cut) - mean[:, None, None]) / deviation[:, None, None], abs=1e-5)


def test_the_original_implementation_gives_figures_alike(draw_blocks: Draw) -> None:
    """Its patches are others, so each figure is another draw of the same quantity, with a deviation of about 4 %."""
    found = distances(draw_blocks(1, 64, 64), draw_blocks(2, 64, 64))
    original = {64: 21.311979, 32: 20.590494, 16: 37.454323}
    assert list(found) == [64, 32, 16]
    for level, figure in original.items():
        assert 0.88 < found[level] / figure < 1.09


def test_a_set_has_no_distance_from_itself(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 16, 32)
    assert distances(images, images, draws=(0, 0)) == {32: 0.0, 16: 0.0}


def test_other_patches_of_the_same_64_images_are_about_20_apart(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 64, 64)
    assert list(distances(images, images).values()) == pytest.approx([20, 20, 20], rel=0.15)


def test_the_noise_floor_halves_with_four_times_the_images(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 128, 32)
    few, many = distances(images[:32], images[:32]), distances(images, images)
    assert [many[level] / few[level] for level in (32, 16)] == pytest.approx([0.5, 0.5], rel=0.2)


@pytest.mark.parametrize("batch_size", [1, 3, 24])
def test_batches_of_any_size_give_the_same_figures(draw_blocks: Draw, batch_size: int) -> None:
    a, b = draw_blocks(1, 24, 64), draw_blocks(2, 24, 64)
    assert distances(a, b, batch_size=batch_size) == distances(a, b, batch_size=10)


def test_what_is_held_in_memory_at_a_time_changes_no_figure(draw_blocks: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw_blocks(1, 8, 32), draw_blocks(2, 8, 32)
    at_once = distances(a, b)
    monkeypatch.setattr(swd, "_PATCHES_AT_ONCE", 300)
    monkeypatch.setattr(swd, "_PROJECTIONS_AT_ONCE", 100_000)
    monkeypatch.setattr(swd, "_PIXELS_AT_ONCE", 1)
    assert distances(a, b) == pytest.approx(at_once, rel=1e-4)


def test_another_seed_is_another_draw_of_the_same_figure(draw_blocks: Draw) -> None:
    a, b = draw_blocks(1, 64, 32), draw_blocks(2, 64, 32)
    first, second = distances(a, b, seed=1), distances(a, b, seed=2)
    assert first != second
    assert first == pytest.approx(second, rel=0.2)


def test_neither_set_comes_first(draw_blocks: Draw) -> None:
    a, b = draw_blocks(1, 8, 32), draw_blocks(2, 8, 32)
    assert distances(a, b, draws=(0, 1)) == distances(b, a, draws=(1, 0))


def test_contrast_and_brightness_of_a_whole_set_do_not_count(draw_blocks: Draw) -> None:
    dark = draw_blocks(1, 16, 32) // 3
    bright = dark * 2 + 50
    assert list(distances(dark, bright, draws=(0, 0)).values()) == pytest.approx([0, 0], abs=0.01)


def test_grey_counts_as_three_equal_colours(draw_blocks: Draw) -> None:
    a, b = draw_blocks(1, 8, 32)[..., :1], draw_blocks(2, 8, 32)[..., :1]
    assert distances(a, b) == distances(a.repeat(3, axis=3), b.repeat(3, axis=3))


def test_images_without_any_detail_are_far_from_others_and_near_each_other(draw_blocks: Draw) -> None:
    black = np.zeros((8, 32, 32, 3), np.uint8)
    assert distances(black, black + 9) == {32: 0.0, 16: 0.0}
    assert min(distances(black, draw_blocks(1, 8, 32)).values()) > 500


def test_progress_counts_the_directions_of_all_levels(draw_blocks: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swd, "_PROJECTIONS_AT_ONCE", 2 * 128 * 256)
    told: list[tuple[int, int]] = []
    with PatchSet(seed=0, draw=0) as patches:
        patches.add(draw_blocks(1, 2, 32))
        sliced_wasserstein(patches, patches, seed=0, progress=lambda *counts: told.append(counts))
    assert told == [(256, 1024), (512, 1024), (768, 1024), (1024, 1024)]


def test_memory_does_not_grow_with_the_set(draw_blocks: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swd, "REPEATS", 1)
    monkeypatch.setattr(swd, "_PROJECTIONS_AT_ONCE", 2**19)
    monkeypatch.setattr(swd, "_PATCHES_AT_ONCE", 2**9)
    images = draw_blocks(1, 16, 16)

    def peak_bytes(batches: int) -> int:
        tracemalloc.start()
        with PatchSet(seed=0, draw=0) as a, PatchSet(seed=0, draw=1) as b:
            for _ in range(batches):
                a.add(images)
                b.add(images)
            sliced_wasserstein(a, b, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    added_bytes = 6 * 2 * 16 * 128 * 147 * 4
    assert peak_bytes(8) - peak_bytes(2) < added_bytes / 10


def test_patches_lie_in_the_scratch_directory_only_while_they_are_needed(draw_blocks: Draw, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing"), PatchSet(seed=0, draw=0, scratch=tmp_path / "missing") as patches:
        patches.add(draw_blocks(1, 1, 16))
    with PatchSet(seed=0, draw=0, scratch=tmp_path) as patches:
        patches.add(draw_blocks(1, 1, 16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 16, 16, 3), np.float32), "images are float32: they must be uint8"),
        (np.zeros((16, 16, 3), np.uint8), r"a batch is \[16, 16, 3\]: it must be \[N, H, W, C\]"),
        (np.zeros((2, 16, 32, 3), np.uint8), "images are 16x32: they must be square"),
        (np.zeros((2, 6, 6, 3), np.uint8), "images are 6x6: patches of 7x7 need at least 7 pixels"),
        (np.zeros((2, 66, 66, 3), np.uint8), "images are 66x66: level 33 does not halve evenly"),
    ],
)
def test_images_without_levels_are_refused(images: NDArray[np.uint8], message: str) -> None:
    with PatchSet(seed=0, draw=0) as patches, pytest.raises(ImageSetError, match=message):
        patches.add(images)


def test_a_set_has_images_of_one_shape() -> None:
    with PatchSet(seed=0, draw=0) as patches:
        patches.add(np.zeros((2, 16, 16, 3), np.uint8))
        message = r"an image is \[32, 32, 3\], those before it \[16, 16, 3\]: a set has images of one shape"
        with pytest.raises(ImageSetError, match=message):
            patches.add(np.zeros((2, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_an_impossible_seed_is_refused(seed: int) -> None:
    with pytest.raises(ImageSetError, match=rf"seed is {seed}: it must lie in \[0, 2\^64\)"):
        PatchSet(seed=seed, draw=0)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((0, 16, 16, 3), (2, 16, 16, 3), "a set has no images: a distance needs at least one in each"),
        ((2, 16, 16, 3), (3, 16, 16, 3), "sets have 2 and 3 images: they must have equally many"),
        ((2, 16, 16, 3), (2, 32, 32, 3), "sets are of 16x16 and 32x32 pixels: they must be of one resolution"),
    ],
)
def test_sets_that_do_not_compare_are_refused(shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ImageSetError, match=message):
        distances(np.zeros(shape_a, np.uint8), np.zeros(shape_b, np.uint8))
